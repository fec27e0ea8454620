defmodule Image.ZeroShot.Serving do
  @moduledoc """
  The process that keeps a model and serves it to many callers at once.

  Every call of `Image.ZeroShot` goes through a serving; one is started for a model when it is
  first needed. An application that wants the model loaded before it takes requests, a name for it,
  or a model that other nodes of a cluster use, puts a serving into its own supervision tree:

      children = [
        {Image.ZeroShot.Serving, name: MyApp.Clip, repo: "openai/clip-vit-base-patch32"},
        MyAppWeb.Endpoint
      ]

      Image.ZeroShot.classify(photo, labels, serving: MyApp.Clip)

  The supervisor starts the next child when the model is loaded. The first start fails if the model
  cannot be loaded, so that a wrong configuration is seen at boot.

  ## Restarts

  After the first start, nothing that happens to the model costs your supervisor a restart.

    * Your supervisor's child is a small process. It starts the one that holds the model, and starts
      that again when it crashes or is killed. Calls in flight get the reason `:serving_down` at
      once; later calls wait until the model is loaded again.
    * A model that cannot be loaded again, for instance because its directory was moved, is tried
      again after 1, 2, 4, … and at most 60 seconds. Each failure is logged with the model, the
      reason and the time of the next try. Meanwhile calls get that reason at once, such as
      `:not_found`, and `Image.ZeroShot.info/1` tells `state: :failed`, `:last_error` and
      `:retry_in`. On a node whose cluster has another serving of the name, calls go there.
    * A start is a restart if a serving of the same name has loaded the same model since the
      application `:image_zero_shot` was started. It returns when the first try is over, and
      succeeds even if that failed: so it is harmless too when your supervisor restarts the child,
      because it was killed or because a sibling crashed.
    * If the child itself is killed more than twice within six seconds, its next start waits until
      they are over. So a supervisor with the default limits, three restarts within five seconds,
      does not give up. It waits too, and restarts nothing else meanwhile.
    * A serving survives a stop of the application `:image_zero_shot`, and is back when that is.

  ## Batches

  A serving that is idle runs a request at once. While it is busy, requests wait, and when the run
  ends all that wait go as one batch, up to `:max_batch`. Nothing ever waits for a timer. Pictures
  are decoded and resized by the caller's side, before they get here. Where a batch fails, its
  requests are run one by one, so that only the one at fault sees the error.

  ## Bounds

  At most `:max_queue` callers are inside a serving; the next one is refused with the reason
  `:overloaded`, before anything is decoded. A call takes at most its `:timeout`, which starts when
  the model is loaded. Requests whose caller died, or whose time is over, are dropped before they
  run. A refused call costs microseconds: try again later, or show the user that the service is busy.

  A caller who would not be served in time is refused too. The estimate:

    * decoding: the bytes of the pictures that wait, one of each caller, times the time that a byte
      has taken lately, divided by the threads; plus what a picture and the last batches have taken
    * the model: the pictures and new prompts of all callers inside, a prompt counting as a 16th of a
      picture, times the time that each has taken in the last batches

  The longer of the two counts, and twice that has to fit into the `:timeout`. Costs change while a
  call waits, so what waits is judged again with each picture and each batch that is done, and may be
  refused then: earlier than its time is over, but later than at the door. An idle serving never
  refuses.

  Long lists of new prompts go in parts of one batch at most. After a part comes a batch of other
  calls, so they wait for one part, however many callers have long lists. At most 16 prompts for each
  of `:max_queue` wait; a further long list is refused.

  ## Clusters

  Servings of one name are known to all connected nodes. A call with `serving: name` takes the one
  of its own node, or else that of any other node: the picture is decoded and resized where the
  call is, and 150 KB (for ViT-B/32) travel. A node that only calls never loads libtorch,
  which is 108 MB of memory and 0.2 seconds; it needs 2 MB and some milliseconds a picture. A node
  that is lost in the middle of a call is replaced once by another, if there is one; else the call
  fails with the reason `:node_down`. All nodes have to run the same version of this library, or
  are told so with the reason `:incompatible`. See the guide "Phoenix".

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:name)}
  * #{Image.ZeroShot.Call.OptionTable.mention(:repo)}, #{Image.ZeroShot.Call.OptionTable.mention(:model)},
    #{Image.ZeroShot.Call.OptionTable.mention(:hub)} - the model, see `Image.ZeroShot`
  #{Image.ZeroShot.Call.OptionTable.docs(:serving)}

  `Image.ZeroShot.load/1` and `config :image_zero_shot` take all of them but `:name` too.
  """

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.{Directory, Keeper, Server}

  @typedoc """
  Facts about a model. The serving itself needs `:concurrency` and `:max_batch`; all else is for callers.
  """
  @type info :: %{
          required(:concurrency) => pos_integer(),
          required(:max_batch) => pos_integer(),
          optional(atom()) => term()
        }

  @doc """
  The specification of a serving with a name, for a supervisor.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{id: {__MODULE__, opts[:name]}, start: {__MODULE__, :start_link, [opts]}}
  end

  @doc """
  Starts a serving with a name and returns when its model is loaded.

  A restart returns without an error if the model cannot be loaded, see
  [Restarts](#module-restarts).
  """
  @spec start_link(keyword()) :: {:ok, pid()} | {:error, Error.t() | {:already_started, pid()}}
  def start_link(opts) do
    opts = Options.serving!(opts)
    Keeper.start_link({:name, opts.name}, opts)
  end

  @doc false
  @spec start_link(Directory.key(), map()) :: GenServer.on_start()
  def start_link(key, opts), do: Server.start_link(key, opts)

  # How logs call the model of these options.
  @doc false
  @spec model(map()) :: String.t()
  def model(opts), do: inspect(Map.get(opts, :repo))

  @doc false
  @spec await(pid()) :: {:ok, info()} | {:error, Error.t()} | :gone
  def await(server) do
    GenServer.call(server, :await, :infinity)
  catch
    :exit, _reason -> :gone
  end

  @doc false
  @spec entry(pid()) :: Directory.entry() | nil
  def entry(server) do
    GenServer.call(server, :entry)
  catch
    :exit, _reason -> nil
  end

  @doc false
  @spec describe(pid()) :: {:ok, map()} | {:error, Error.t()}
  def describe(server) do
    GenServer.call(server, :describe)
  catch
    :exit, _reason ->
      Error.error(:serving_down, "the process that keeps the model does not answer")
  end

  # What a caller gets whose serving is gone.
  @doc false
  @spec terminated() :: {:error, Error.t()}
  def terminated,
    do: Error.error(:serving_down, "the serving terminated during the call; try again")

  # Returns when the memory is given back.
  @doc false
  @spec unload(pid()) :: :ok
  def unload(server) do
    monitor = Process.monitor(server)

    try do
      {runner, model} = GenServer.call(server, :unload)
      receive do: ({:DOWN, ^monitor, :process, _server, _reason} -> :ok)
      if model, do: runner.close(model), else: :ok
    catch
      :exit, _reason -> :ok
    after
      Process.demonitor(monitor, [:flush])
    end
  end
end
