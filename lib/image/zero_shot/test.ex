defmodule Image.ZeroShot.Test do
  @moduledoc """
  Stubs for the tests of your application: every call of `Image.ZeroShot` works, without a model.

  Start a stub in place of your serving, under the same name. It takes the options of
  `Image.ZeroShot.Serving`, so one line of `config/test.exs` is enough:

      # config/test.exs
      config :my_app, clip: Image.ZeroShot.Test

      # lib/my_app/application.ex
      clip = Application.get_env(:my_app, :clip, Image.ZeroShot.Serving)

      children = [
        {clip, name: MyApp.Clip, repo: "openai/clip-vit-base-patch32"},
        MyAppWeb.Endpoint
      ]

  Then say in each test what pictures show:

      iex> Image.ZeroShot.Test.stub(MyApp.Clip, "dog")
      :ok
      iex> photo = {:rgb, <<0, 0, 0>>, 1, 1}
      iex> Image.ZeroShot.label(photo, ["cat", "dog"], serving: MyApp.Clip)
      "dog"
      iex> Image.ZeroShot.Test.calls(MyApp.Clip)
      [picture: {:rgb, <<0, 0, 0>>, 1, 1}, texts: ["a photo of cat", "a photo of dog"]]

  Calls that name neither a serving nor a model go there with `config :image_zero_shot, serving: MyApp.Clip`.
  A call that names a `:repo` goes to that model, stub or not.

  ## What is real

  Only the two towers of the model are replaced. A wrong option, label or picture fails as in
  production, with the same message: pictures are opened, decoded and held to their limits,
  labels become prompts, scores are computed from vectors, and `:top_k`, `:min_score`, `:other`
  and `:multi_label` apply to them. Classifiers, embeddings, streams and the telemetry of calls
  work. A stub does not look at the picture, so in `explain/3` every patch has the same part. There
  are no batches: each calling process computes for itself.

  A text's vector is made of its words. Texts that share words are alike; texts that share none have a cosine
  of about 0. The words a, an, the, of, photo, picture and image do not count. So a stub that says "dog"
  answers the label "dog" and the prompt "a photo of a dog", and a search for "brown dog" finds the picture of
  the "dog" before that of the "cat". If no label has a word of what the picture shows, all of them get about the
  same score.

  ## Processes

  A stub belongs to the process that called `stub/2`, and is gone when that process ends. So
  tests with `async: true` each have their own, under the same name. Processes started with
  `Task`, by `classify_many/3` or by whatever else sets `$callers` use the stub of the test that
  started them. Any other process needs `allow/3`, such as a GenServer or a LiveView that the
  test talks to. Where you cannot name the process, use `share/1` in tests that are not `async`.
  A call from a process without a stub raises an `ArgumentError` that says so. So does a call from another node that
  has no stub of that name: a stub answers calls of its own node.

  The guide "Testing" says when to use a stub, and when `repo: :embedded`.
  """

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Call.{Argument, Options, OptionValues}
  alias Image.ZeroShot.Serving.Keeper
  alias Image.ZeroShot.Stub.{Answer, Model, Owners}

  @typedoc "The name of a stub, and of the serving that it stands for."
  @type name :: atom()

  @typedoc """
  What a picture shows.

    * A text, such as `"dog"`. The label with the same words gets the highest score
    * Scores, such as `%{"cat" => 0.2, "dog" => 0.8}`, which `classify/3` returns to about four
      digits. With `scores: :softmax`, the default, they sum to 1.0, and labels that are not
      named get 0.0. With `multi_label: true`, or another choice of `:scores`, they are scores of
      that choice. The keys are labels that are strings, or the label of `:other`. For a label
      with prompts of its own, the key is the prompt; the score is exact if there is only one
    * `{:error, %Image.ZeroShot.Error{}}`, which the call returns or raises
  """
  @type answer :: String.t() | %{optional(term()) => number()} | {:error, Error.t()}

  @doc """
  Returns the child specification of a stub.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    opts = OptionValues.keyword!(opts)
    %{id: {__MODULE__, opts[:name]}, start: {__MODULE__, :start_link, [opts]}, type: :supervisor}
  end

  @doc """
  Starts a stub.

  In a library, which has no application, call this in `test/test_helper.exs`.

  ## Options

  The options of `Image.ZeroShot.Serving`. They are checked, but those about the model have no
  effect on a stub. And:

  #{Image.ZeroShot.Call.OptionTable.docs(:stub)}
  """
  @spec start_link(keyword()) :: {:ok, pid()} | {:error, term()}
  def start_link(opts) do
    opts = opts |> Options.stub!() |> Map.put(:runner, Model)

    children = [
      %{id: :owners, start: {Owners, :start_link, [opts.name]}},
      %{id: :serving, start: {Keeper, :start_link, [{:name, opts.name}, opts]}}
    ]

    with {:error, {:shutdown, {:failed_to_start_child, _id, reason}}} <-
           Supervisor.start_link(children, strategy: :rest_for_one),
         do: {:error, reason}
  end

  @doc """
  Says what pictures show to the calling process, from now on.

  `answer` is an `t:answer/0`, or a function from a picture, as it is given in the call, to one. The function
  runs in the process of the call, once for each picture. An error that is given without a function also
  meets calls that have texts only.

  ## Examples

      iex> Image.ZeroShot.Test.stub(MyApp.Clip, fn {:path, path} -> Path.rootname(Path.basename(path)) end)
      iex> Image.ZeroShot.label({:path, "priv/samples/cat.png"}, ["cat", "dog"], serving: MyApp.Clip)
      "cat"

      iex> Image.ZeroShot.Test.stub(MyApp.Clip, %{"cat" => 0.25, "dog" => 0.75})
      iex> [best, _] = Image.ZeroShot.classify({:path, "priv/samples/dog.jpg"}, ["cat", "dog"], serving: MyApp.Clip)
      iex> {best.label, Float.round(best.score, 3)}
      {"dog", 0.75}

      iex> error = %Image.ZeroShot.Error{reason: :overloaded, message: "the serving is full"}
      iex> Image.ZeroShot.Test.stub(MyApp.Clip, {:error, error})
      iex> {:error, error} = Image.ZeroShot.try_label({:path, "priv/samples/dog.jpg"}, ["dog"], serving: MyApp.Clip)
      iex> error.reason
      :overloaded

  """
  @spec stub(name(), answer() | (Source.t() -> answer())) :: :ok
  def stub(name, answer) when is_function(answer, 1), do: Owners.put(name, answer)
  def stub(name, answer), do: Owners.put(name, Answer.check!(answer))

  @doc """
  Lets another process use the stub of `owner`.

      {:ok, view, _html} = live(conn, "/")
      Image.ZeroShot.Test.allow(MyApp.Clip, self(), view.pid)

  Raises an `ArgumentError` if `owner` has no stub, or if `pid` has one of its own or is allowed another's.
  """
  @spec allow(name(), owner :: pid(), pid()) :: :ok
  def allow(name, owner, pid) do
    for one <- [owner, pid], not is_pid(one), do: Argument.wrong!("a process", one)
    Owners.allow(name, owner, pid)
  end

  @doc """
  Lets every process without a stub of its own use that of the calling process, for as long as it
  lives.

  For tests that are not `async`. Raises an `ArgumentError` while another process shares its stub.
  """
  @spec share(name()) :: :ok
  def share(name), do: Owners.share(name)

  @doc """
  Returns what the stub of the calling process was asked, in order.

    * `{:picture, picture}` - a picture, as the call was given it
    * `{:texts, texts}` - the prompts of a call, or those of one of its parts if there are more than 512

  A call that is refused before the model would see it, such as one with a file that does not exist, is not
  among them. With streams and tasks the order of pictures is that in which they were decoded.

  ## Examples

      iex> Image.ZeroShot.Test.stub(MyApp.Clip, "dog")
      iex> Image.ZeroShot.try_label({:path, "no.jpg"}, ["dog"], serving: MyApp.Clip)
      iex> Image.ZeroShot.Test.calls(MyApp.Clip)
      []

  """
  @spec calls(name()) :: [{:picture, Source.t()} | {:texts, [String.t()]}]
  def calls(name), do: Owners.calls(name)
end
