defmodule Image.ZeroShot.Serving do
  @moduledoc """
  The process that keeps a model and serves it to many callers at once.

  Every call of `Image.ZeroShot` goes through a serving. The first call that needs a model starts one.
  Put a serving into your own supervision tree to load the model before you take requests, to give it a
  name, or to share it with other nodes of a cluster:

      children = [
        {Image.ZeroShot.Serving, name: MyApp.Clip, repo: "openai/clip-vit-base-patch32"},
        MyAppWeb.Endpoint
      ]

      Image.ZeroShot.classify(photo, labels, serving: MyApp.Clip)

  The supervisor starts the next child when the model is loaded. The first start fails if the model
  cannot be loaded, so you see a wrong configuration at boot.

  ## Restarts

  After the first start, nothing that happens to the model costs your supervisor a restart.

    * Your supervisor's child is a small process. It starts the process that holds the model, and
      restarts that one when it crashes or is killed. Calls in flight get the reason `:serving_down` at
      once. Later calls wait until the model is loaded again.
    * If the model cannot be loaded again, for instance because its directory was moved, the serving
      retries after 1, 2, 4, … and at most 60 seconds. It logs each failure with the model, the reason
      and the time of the next try. Meanwhile calls get that reason at once, such as `:not_found`, and
      `Image.ZeroShot.info/1` returns `state: :failed`, `:last_error` and `:retry_in`. If another node
      of the cluster has a serving of that name, calls go there.
    * A start counts as a restart if a serving of the same name has loaded the same model since the
      application `:image_zero_shot` was started. Such a start returns after the first try, and succeeds
      even if that try fails. So your supervisor can restart the child at no risk, whether it was killed
      or a sibling crashed.
    * If the child itself is killed more than twice within six seconds, its next start waits until these
      six seconds are over. So a supervisor with the default limits, three restarts within five seconds,
      does not give up. The supervisor waits too, and restarts nothing else meanwhile.
    * A serving survives a stop of the application `:image_zero_shot`, and is back when the application
      is.

  ## Batches

  An idle serving runs a request at once. While it is busy, requests wait. When the run ends, all
  waiting requests go as one batch, up to `:max_batch`. There is no timer. Pictures are decoded and
  resized on the caller's side. If a batch fails, its requests run one by one, so that only the
  request at fault sees the error.

  ## Bounds

  At most `:max_queue` callers are inside a serving. The next one is refused with the reason
  `:overloaded`, before anything is decoded. A call takes at most its `:timeout`, which starts when
  the model is loaded. Requests whose caller died, or whose deadline has passed, are dropped before they
  run. A refusal costs microseconds: try again later, or tell the user that the service is busy.

  A caller that would not be served in time is refused too. There are two estimates, with the times of
  recent work:

      decoding  = waiting bytes * time for a byte / decode threads
                  + pictures of the call * time to decode one + 2 * time of a batch
      the model = (pictures + new prompts / 16) * time for a picture / concurrency

  The waiting bytes are those of one picture for each caller. The pictures and new prompts are those of all
  callers inside, this one included; of others' long lists, only the parts that run first count.

  Twice the longer estimate has to fit into the `:timeout`; for a call with a long list of new prompts, the
  longer estimate itself. Costs change while a call waits, so waiting calls are judged again after each
  picture and each batch. A call can still be refused then, before its deadline. An idle serving never
  refuses.

  Long lists of new prompts are split into parts of at most one batch. A batch of other calls runs after
  each part, so other calls wait for one part, however many long lists there are. At most 16 x `:max_queue`
  prompts wait in long lists; the next long list is refused.

  ## Clusters

  All connected nodes know the servings of a name. A call with `serving: name` uses the one on its own
  node, or else one on any other node. The picture is decoded and resized on the calling node, and 150 KB
  (for ViT-B/32) travel. A node that only calls never loads libtorch, which takes 108 MB of memory and
  0.2 seconds; it needs 2 MB, and some milliseconds for each picture. If the serving's node is lost during
  a call, another node takes over, once; without another node the call fails with the reason `:node_down`.
  All nodes have to run the same version of this library; otherwise the reason is `:incompatible`. See the
  guide "Phoenix".

  > #### The whole cluster is trusted {: .warning}
  >
  > Distributed Erlang is not encrypted unless you set that up, and lets every connected node run any code.

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:name)}
  * #{Image.ZeroShot.Call.OptionTable.mention(:repo)}, #{Image.ZeroShot.Call.OptionTable.mention(:model)},
    #{Image.ZeroShot.Call.OptionTable.mention(:hub)} - the model, see `Image.ZeroShot`
  #{Image.ZeroShot.Call.OptionTable.docs(:serving)}

  `Image.ZeroShot.load/1` and `config :image_zero_shot` take all of them but `:name` too.
  """

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.{Options, OptionValues}
  alias Image.ZeroShot.Serving.Keeper

  @typedoc """
  Facts about a model. The serving itself needs `:concurrency` and `:max_batch`; the rest is for callers.
  """
  @type info :: %{
          required(:concurrency) => pos_integer(),
          required(:max_batch) => pos_integer(),
          optional(atom()) => term()
        }

  @doc """
  Returns the child specification of a serving with a name.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    opts = OptionValues.keyword!(opts)
    %{id: {__MODULE__, opts[:name]}, start: {__MODULE__, :start_link, [opts]}}
  end

  @doc """
  Starts a serving with a name and returns when its model is loaded.

  A restart succeeds even if the model cannot be loaded, see [Restarts](#module-restarts).
  """
  @spec start_link(keyword()) :: {:ok, pid()} | {:error, Error.t() | {:already_started, pid()}}
  def start_link(opts) do
    opts = Options.serving!(opts)
    Keeper.start_link({:name, opts.name}, opts)
  end
end
