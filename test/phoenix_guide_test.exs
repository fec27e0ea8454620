defmodule Image.ZeroShot.PhoenixGuideTest do
  # The guide is for projects with Phoenix, which is not here: its modules are compiled and run with
  # the stand-ins of test/support/phoenix_stand_ins.ex, and with the embedded model. That pages and
  # requests look like this is Phoenix's business; that the calls, the reasons and the names in the
  # guide are right is checked here.
  use ExUnit.Case, async: false

  import ExUnit.{CaptureIO, CaptureLog}

  alias Image.ZeroShot.{Error, Packaging}
  alias Image.ZeroShot.Serving.{Directory, Gate}
  alias Image.ZeroShot.Test.{Markdown, Pictures}
  alias Phoenix.LiveView.Socket

  @guide "guides/phoenix.md"
  @app :image_zero_shot
  @serving {Image.ZeroShot.Serving, MyApp.Clip}

  # Compiled by this test, out of the guide.
  @modules [
    MyApp.Application,
    MyAppWeb.ClipError,
    MyAppWeb.ClipMetrics,
    MyAppWeb.Health,
    MyAppWeb.LabelController,
    MyAppWeb.LabelControllerTest,
    MyAppWeb.LabelLive
  ]
  @compile {:no_warn_undefined, @modules}

  @clip_error MyAppWeb.ClipError
  @controller MyAppWeb.LabelController
  @health MyAppWeb.Health
  @live MyAppWeb.LabelLive

  setup_all do
    blocks = @guide |> File.read!() |> Markdown.blocks("elixir")
    before = Application.get_all_env(@app)
    Application.put_all_env(config(blocks, :test))

    {compiled, warnings} = with_io(:stderr, fn -> for block <- blocks, do: compile(block) end)
    modules = List.flatten(compiled)
    start_supervised!(%{id: :my_app, start: {MyApp.Application, :start, [:normal, []]}})

    on_exit(fn ->
      for {name, _} <- Application.get_all_env(@app), do: Application.delete_env(@app, name)
      Application.put_all_env([{@app, before}])
      Enum.each(modules, &forget/1)
    end)

    %{blocks: blocks, modules: modules, warnings: warnings}
  end

  defp compile({line, code}) do
    if code =~ ~r/^defmodule /m,
      do: for({module, _} <- Code.compile_string(code, "#{@guide}:#{line}"), do: module),
      else: []
  end

  defp forget(module) do
    :code.purge(module)
    :code.delete(module)
  end

  defp config(blocks, env) do
    {_line, code} = Enum.find(blocks, fn {_line, code} -> code =~ "import Config" end)
    path = Path.join(Packaging.folder!("phoenix"), "runtime.exs")
    File.write!(path, code)
    Config.Reader.read!(path, env: env, target: :host)
  end

  # What the guide promises for each reason that a user meets.
  @bad_picture [:invalid_image, :unsupported_image, :image_too_large]
  @try_again [:overloaded, :timeout, :serving_down, :node_down]

  test "its modules are whole, and compile without a warning", context do
    assert context.warnings == ""

    assert Enum.sort(context.modules) == @modules
  end

  describe "supervision" do
    test "the model is loaded when the Endpoint starts, and is what calls take" do
      assert {:ok, %{name: "emoji-clip"} = info} = Agent.get(MyAppWeb.Endpoint, & &1)
      assert info.queue.max == 100
      assert {:error, %{reason: :serving_down}} = Agent.get(MyAppWeb.Telemetry, & &1)
    end

    test "what is killed is started again" do
      {server, _entry} = Directory.lookup({:name, MyApp.Clip})
      monitor = Process.monitor(server)
      Process.exit(server, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^server, :killed}

      assert restarted(server) != server
      assert Image.ZeroShot.load() == :ok
      assert {:ok, %{name: "emoji-clip", state: :ready}} = Image.ZeroShot.info()
    end

    test "production has a model for photographs, and all the rest the embedded one", context do
      for {env, repo} <- [
            prod: "openai/clip-vit-base-patch32",
            dev: :embedded,
            test: :embedded
          ] do
        assert config(context.blocks, env)[@app] |> Enum.sort() ==
                 [repo: repo, serving: MyApp.Clip]
      end
    end

    test "the serving is where the variable says so", context do
      {_line, code} = Enum.find(context.blocks, fn {_line, code} -> code =~ "CLIP_SERVING" end)

      for {value, served} <- [{"true", true}, {"", false}] do
        Packaging.with_env(%{"CLIP_SERVING" => value}, fn ->
          {children, _binding} = Code.eval_string(code)
          assert List.keymember?(children, Image.ZeroShot.Serving, 0) == served
          assert List.last(children) == MyAppWeb.Endpoint
        end)
      end
    end
  end

  describe "LiveView" do
    test "an upload becomes labels, and the view does not wait for them" do
      socket = mount([copy("dog.jpg")])
      assert page(socket) =~ ~s(<button>)

      {:noreply, socket} = @live.handle_event("classify", %{}, socket)
      assert page(socket) =~ "Looking"
      assert page(socket) =~ ~s(<button disabled>)

      socket = finish(socket)
      assert page(socket) =~ ~r/<li>a dog: \d+ %<\/li><li>/
      refute page(socket) =~ "Looking"
      refute page(socket) =~ "alert"
    end

    test "what is no picture is told, and forgotten with the next one" do
      {:noreply, socket} = @live.handle_event("classify", %{}, mount([temporary("nonsense")]))
      socket = finish(socket)
      assert page(socket) =~ @clip_error.message(%{reason: :invalid_image})
      refute page(socket) =~ "<li>"

      {:noreply, socket} =
        @live.handle_event("classify", %{}, with_files(socket, [copy("dog.jpg")]))

      refute page(socket) =~ "alert"
      assert page(finish(socket)) =~ "a dog"
    end

    test "every way that a call can end is shown" do
      for reason <- @bad_picture ++ @try_again ++ [:internal] do
        error = %Error{reason: reason, message: "at /srv/secret"}
        {:noreply, socket} = @live.handle_async(:classify, {:ok, {:error, error}}, mount([]))
        assert page(socket) =~ @clip_error.message(error)
        refute page(socket) =~ "secret"
      end

      {:noreply, socket} = @live.handle_async(:classify, {:exit, {:undef, []}}, mount([]))
      assert page(socket) =~ @clip_error.message(:else)
    end

    test "a serving that does not answer in time is told" do
      {server, _entry} = Directory.lookup({:name, MyApp.Clip})
      Application.put_env(@app, :timeout, 100)
      :sys.suspend(server)
      {:noreply, socket} = @live.handle_event("classify", %{}, mount([copy("dog.jpg")]))
      assert page(finish(socket)) =~ @clip_error.message(%{reason: :timeout})
    after
      {server, _entry} = Directory.lookup({:name, MyApp.Clip})
      :sys.resume(server)
      Application.delete_env(@app, :timeout)
    end

    test "nothing is started without a file, and a wrong file is told" do
      {:noreply, socket} = @live.handle_event("validate", %{}, mount([]))
      {:noreply, socket} = @live.handle_event("classify", %{}, socket)
      assert socket.private == %{}

      photo = %{socket.assigns.uploads.photo | entries: ["0"], errors: [{"0", :too_large}]}
      socket = Phoenix.Component.assign(socket, uploads: %{photo: photo})
      assert page(socket) =~ @clip_error.message(%{reason: :image_too_large})
    end
  end

  test "every reason has words of its own" do
    claimed = @bad_picture ++ @try_again
    words = for reason <- claimed, do: @clip_error.message(%Error{reason: reason, message: ""})

    # The last two share theirs.
    assert length(Enum.uniq(words)) == length(claimed) - 1
    refute @clip_error.message(%Error{reason: :torch, message: ""}) in words

    named = for [_, reason] <- Regex.scan(~r/`:(\w+)`/, documentation(Error)), do: reason
    for reason <- claimed, do: assert(to_string(reason) in named)
  end

  describe "controller" do
    test "answers with labels" do
      conn = create(copy("dog.jpg"))
      assert {conn.status, conn.resp_headers} == {200, []}
      assert %{"labels" => [%{"label" => "a dog", "score" => score}, _, _]} = conn.resp_body
      assert score > 0.5
    end

    test "422 for what is wrong with the picture" do
      assert %{status: 422, resp_body: %{"error" => "invalid_image"}} = create(temporary("no"))
      svg = temporary(~s(<svg xmlns="http://www.w3.org/2000/svg"></svg>))
      assert %{status: 422} = create(svg)

      large = temporary(Pictures.claiming(60_000, 60_000, ""))
      assert %{status: 422, resp_body: %{"error" => "image_too_large"}} = create(large)
      assert create(large).resp_headers == []
    end

    test "503 for what will pass: full, and not there" do
      fill(fn -> assert_try_again("overloaded") end)
      without_serving(fn -> assert_try_again("serving_down") end)
      assert %{status: 200} = create(copy("dog.jpg"))
    end

    test "400 without a picture, and 500 for faults of ours, which are logged" do
      conn = %Plug.Conn{}
      assert %{status: 400} = @controller.create(conn, %{})
      assert %{status: 400} = @controller.create(conn, %{"photo" => "text"})

      log = capture_log(fn -> assert %{status: 500} = create("/no/such/file") end)
      assert log =~ "no such file"
    end

    test "the test of the guide passes" do
      tests = MyAppWeb.LabelControllerTest.__ex_unit__().tests
      assert tests != []
      for test <- tests, do: apply(test.module, test.name, [%{conn: %Plug.Conn{}}])
    end
  end

  test "health is that of the serving, for its path alone" do
    assert %{status: 200, resp_body: "emoji-clip on " <> _, halted: true} = health(["health"])

    without_serving(fn ->
      assert %{status: 503, resp_body: "serving_down", halted: true} = health(["health"])
    end)

    assert %{status: nil, halted: false} = health(["photos"])
  end

  test "every metric is of an event that is documented and emitted" do
    documented =
      for line <- Image.ZeroShot.Telemetry |> documentation() |> String.split("\n"),
          [_, event, rest] <- [Regex.run(~r/^\| `\[(.*?)\]` (.*)/, line)],
          into: %{},
          do: {for([_, word] <- Regex.scan(~r/:(\w+)/, event), do: String.to_atom(word)), rest}

    emitted =
      Map.new(events(), fn {event, measurements, metadata} ->
        {event, Map.keys(measurements) ++ Map.keys(metadata)}
      end)

    metrics = MyAppWeb.ClipMetrics.metrics()
    assert length(metrics) > 5

    for %{event_name: [@app | event]} = metric <- metrics,
        field <- [metric.measurement | metric.tags] do
      assert Map.fetch!(documented, event) =~ "`:#{field}`"
      assert field in Map.get(emitted, [@app | event], []), "#{inspect(event)} has no #{field}"
    end
  end

  # All that is emitted by a load, a call, a refusal.
  defp events do
    test = self()
    Process.register(test, __MODULE__)

    quoted =
      quote do
        def execute(event, measurements, metadata),
          do: send(unquote(__MODULE__), {:event, {event, measurements, metadata}})
      end

    {:module, telemetry, _, _} = Module.create(:telemetry, quoted, Macro.Env.location(__ENV__))

    without_serving(fn -> :ok end)
    create(copy("dog.jpg"))
    fill(fn -> create(copy("dog.jpg")) end)
    forget(telemetry)
    Process.unregister(__MODULE__)
    received([])
  end

  defp received(events) do
    receive do
      {:event, event} -> received([event | events])
    after
      0 -> events
    end
  end

  defp documentation(module) do
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(module)
    text
  end

  defp mount(paths) do
    {:ok, socket} = @live.mount(%{}, %{}, %Socket{})
    with_files(socket, paths)
  end

  defp with_files(socket, paths),
    do: put_in(socket.assigns.uploads.photo.entries, paths)

  # As LiveView: in a process of its own, with what the function returns.
  defp finish(socket) do
    {task, private} = Map.pop!(socket.private, :classify)
    result = task |> Task.async() |> Task.await()

    {:noreply, socket} =
      @live.handle_async(:classify, {:ok, result}, %{socket | private: private})

    with_files(socket, [])
  end

  defp page(socket) do
    socket.assigns |> @live.render() |> IO.iodata_to_binary() |> String.replace(~r/>\s+</, "><")
  end

  defp create(path) do
    upload = %Plug.Upload{path: path, filename: "photo.jpg"}
    @controller.create(%Plug.Conn{}, %{"photo" => upload})
  end

  defp assert_try_again(reason) do
    conn = create(copy("dog.jpg"))
    assert {conn.status, conn.resp_body} == {503, %{"error" => reason}}
    assert [{"retry-after", seconds}] = conn.resp_headers
    assert String.to_integer(seconds) > 0
  end

  defp health(path), do: @health.call(%Plug.Conn{path_info: path}, @health.init([]))

  defp copy(sample), do: sample |> Pictures.sample_bytes() |> temporary()

  defp temporary(bytes) do
    path = Path.join(System.tmp_dir!(), "phoenix-guide-#{System.unique_integer([:positive])}")
    File.write!(path, bytes)
    on_exit(fn -> File.rm(path) end)
    path
  end

  # The supervisor may hear of the end later than the test does, and answers nobody while it starts
  # the next one.
  defp restarted(server) do
    children = Supervisor.which_children(MyApp.Supervisor)
    {_id, child, _type, _modules} = List.keyfind!(children, @serving, 0)
    if child == server, do: restarted(server), else: child
  end

  # As many callers inside as the serving takes.
  defp fill(function) do
    {_server, %{gate: gate}} = Directory.lookup({:name, MyApp.Clip})
    test = self()

    callers =
      for _ <- 1..gate.max do
        spawn_link(fn ->
          :ok = Gate.enter(gate)
          send(test, :inside)
          receive do: (:leave -> send(test, {:left, Gate.leave(gate)}))
        end)
      end

    for _ <- callers, do: assert_receive(:inside)
    function.()
    for caller <- callers, do: send(caller, :leave)
    for _ <- callers, do: assert_receive({:left, :ok})
  end

  defp without_serving(function) do
    :ok = Supervisor.terminate_child(MyApp.Supervisor, @serving)
    function.()
    {:ok, _server} = Supervisor.restart_child(MyApp.Supervisor, @serving)
  end
end
