defmodule Image.ZeroShot.PhoenixGuideTest do
  # The guide is for projects with Phoenix, which is not here: its modules are compiled and run with
  # the stand-ins of test/support/phoenix_stand_ins.ex, and with the embedded model. That pages and
  # requests look like this is Phoenix's business; that the calls, the reasons and the names in the
  # guide are right is checked here.
  use ExUnit.Case, async: false

  @moduletag :capture_log

  import ExUnit.{CaptureIO, CaptureLog}

  alias Image.ZeroShot.{Error, Packaging}
  alias Image.ZeroShot.Serving.{Directory, Gate}
  alias Image.ZeroShot.Test.{PhoenixGuide, Pictures}
  alias Phoenix.LiveView.Socket

  @app :image_zero_shot
  @serving {Image.ZeroShot.Serving, MyApp.Clip}

  # Compiled by this test, out of the guide.
  @modules [
    MyApp.Application,
    MyAppWeb.Admit,
    MyAppWeb.ClipError,
    MyAppWeb.ClipPage,
    MyAppWeb.ErrorJSON,
    MyAppWeb.Health,
    MyAppWeb.LabelController,
    MyAppWeb.LabelControllerTest,
    MyAppWeb.LabelLive
  ]
  @compile {:no_warn_undefined, @modules}

  @admit MyAppWeb.Admit
  @clip_error MyAppWeb.ClipError
  @controller MyAppWeb.LabelController
  @health MyAppWeb.Health
  @live MyAppWeb.LabelLive
  @page MyAppWeb.ClipPage

  # Their macros are Phoenix's: that the changes fit is all that can be seen here.
  @only_read ~w(lib/my_app_web/endpoint.ex lib/my_app_web/router.ex lib/my_app_web/telemetry.ex) ++
               ~w(config/prod.exs config/runtime.exs)

  setup_all do
    project = PhoenixGuide.project()
    before = Application.get_all_env(@app)
    Application.put_all_env([{@app, PhoenixGuide.config(project, :test)}])

    {modules, warnings} = with_io(:stderr, fn -> compile(project) end)
    start_supervised!(%{id: :my_app, start: {MyApp.Application, :start, [:normal, []]}})

    on_exit(fn ->
      for {name, _} <- Application.get_all_env(@app), do: Application.delete_env(@app, name)
      Application.put_all_env([{@app, before}])
      Enum.each(modules, &forget/1)
    end)

    %{project: project, modules: modules, warnings: warnings}
  end

  # In the order of the guide.
  defp compile(project) do
    for {path, {line, code}} <- Enum.sort_by(project, fn {_path, {line, _code}} -> line end),
        path not in @only_read,
        {module, _binary} <- Code.compile_string(code, "#{path} of the guide, line #{line}"),
        do: module
  end

  defp forget(module) do
    :code.purge(module)
    :code.delete(module)
  end

  # What the guide promises for each reason that a user meets.
  @bad_picture [:invalid_image, :unsupported_image, :image_too_large]
  @try_again [:overloaded, :timeout, :serving_down, :node_down]

  test "its modules are whole, and compile without a warning", context do
    assert context.warnings == ""

    assert Enum.sort(context.modules) == @modules
  end

  test "its changes fit into what Phoenix generates", context do
    for path <- @only_read do
      {_line, code} = Map.fetch!(context.project, path)
      assert {:ok, _quoted} = Code.string_to_quoted(code)
    end

    {_line, endpoint} = context.project["lib/my_app_web/endpoint.ex"]
    [health, admit, parsers] = for plug <- ~w(Health Admit Plug.Parsers), do: plug(endpoint, plug)
    assert health < admit and admit < parsers
  end

  test "the example is made of the guide's page", context do
    example = File.read!("examples/label_live.exs")
    assert {:ok, _quoted} = Code.string_to_quoted(example)

    for path <- ~w(components/clip_error.ex live/label_live.ex) do
      {_line, code} = context.project["lib/my_app_web/" <> path]
      [_comment, module] = String.split(code, "\n", parts: 2)
      assert example =~ module
    end
  end

  defp plug(endpoint, name) do
    [{place, _length}] =
      Regex.run(~r/plug (MyAppWeb\.)?#{name}\b/, endpoint, return: :index) |> Enum.take(1)

    place
  end

  describe "supervision" do
    test "the model is loaded when the Endpoint starts, and is what calls take" do
      assert {:ok, %{name: "emoji-clip"} = info} = Agent.get(MyAppWeb.Endpoint, & &1)
      assert info.queue.max == 30
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
        assert context.project |> PhoenixGuide.config(env) |> Enum.sort() ==
                 [repo: repo, serving: MyApp.Clip]
      end
    end

    test "the children that Phoenix generates stay" do
      running = for {id, _, _, _} <- Supervisor.which_children(MyApp.Supervisor), do: id
      assert running -- [@serving, MyApp.Uploads] == Enum.reverse(generated())
      assert MyApp.Application.config_change([], [], []) == :ok
    end

    test "the serving is where the variable says so", context do
      project = PhoenixGuide.clustered(context.project)
      {_line, code} = Map.fetch!(project, "lib/my_app/application.ex")

      for {value, served} <- [{"true", true}, {"", false}] do
        Packaging.with_env(%{"CLIP_SERVING" => value}, fn ->
          children = children(code)
          assert List.keymember?(children, Image.ZeroShot.Serving, 0) == served
          assert List.last(children) == MyAppWeb.Endpoint
        end)
      end
    end
  end

  defp generated, do: [MyAppWeb.Telemetry, DNSCluster, Phoenix.PubSub, MyAppWeb.Endpoint]

  # Those that the application would start.
  defp children(code) do
    {{:module, module, _, _}, _binding} =
      code
      |> String.replace("MyApp.Application", "MyApp.Clustered")
      |> String.replace(~r/Supervisor\.start_link\((.*), opts\)/, "{\\1, opts}")
      |> Code.eval_string()

    {children, _opts} = module.start(:normal, [])
    forget(module)
    children
  end

  describe "LiveView" do
    test "uploads become labels, and the view does not wait for them" do
      socket = mount(["dog.jpg", "pizza.webp"])
      assert page(socket) =~ ~s(<button>What)
      assert page(socket) =~ ~s(<img id="1">)
      assert page(socket) =~ ~s(<progress max="100" value="40">)

      socket = event("classify", socket)

      assert socket.assigns.photos |> Enum.map(& &1.name) |> Enum.sort() == [
               "dog.jpg",
               "pizza.webp"
             ]

      assert page(socket) =~ "Looking"

      socket = finish(socket)
      assert page(socket) =~ ~r/<h2>dog.jpg<\/h2>\s*<ol><li>a dog: \d+ %<\/li><li>/
      assert page(socket) =~ ~r/<h2>pizza.webp<\/h2>\s*<ol><li>a pizza: \d+ %<\/li><li>/
      refute page(socket) =~ "Looking"
      refute page(socket) =~ "alert"
    end

    test "what is no picture is told and logged, and forgotten when the next one is chosen" do
      socket = event("classify", mount([{"nonsense", "notes.jpg"}]))
      {socket, log} = with_log(fn -> finish(socket) end)
      assert log =~ "[info] invalid_image: "
      assert page(socket) =~ @clip_error.message(%{reason: :invalid_image})
      refute page(socket) =~ "<li>"

      socket = event("choose", with_files(socket, ["dog.jpg"]))
      refute page(socket) =~ "alert"
      refute page(socket) =~ "notes.jpg"

      socket = finish(event("classify", socket))
      assert page(socket) =~ "a dog"
      refute page(event("choose", with_files(socket, ["cat.png"]))) =~ "a dog"
    end

    test "every way that a call can end is shown, and logged without being shown" do
      socket = event("classify", mount(["dog.jpg"]))
      %{assigns: %{photos: [%{ref: ref}]}} = socket

      for reason <- @bad_picture ++ @try_again ++ [:internal] do
        error = %Error{reason: reason, message: "at /srv/secret"}
        result = {:ok, {:error, error}}
        {{:noreply, socket}, log} = with_log(fn -> @live.handle_async(ref, result, socket) end)
        assert page(socket) =~ @clip_error.message(error)
        refute page(socket) =~ "secret"
        assert log =~ "#{reason}: at /srv/secret"
        assert log =~ "[error]" == reason not in [:overloaded | @bad_picture]
      end

      {:noreply, socket} = @live.handle_async(ref, {:exit, {:undef, []}}, socket)
      assert page(socket) =~ @clip_error.message(:else)
    end

    test "a serving that does not answer in time is told" do
      {server, _entry} = Directory.lookup({:name, MyApp.Clip})
      Application.put_env(@app, :timeout, 100)
      :sys.suspend(server)
      socket = event("classify", mount(["dog.jpg"]))
      assert page(finish(socket)) =~ @clip_error.message(%{reason: :timeout})
    after
      {server, _entry} = Directory.lookup({:name, MyApp.Clip})
      :sys.resume(server)
      Application.delete_env(@app, :timeout)
    end

    test "nothing is started without a file, and that is said instead of old results" do
      socket = finish(event("classify", mount(["dog.jpg"])))

      for name <- ["choose", "classify"] do
        socket = event(name, socket)
        assert socket.private == %{}
        assert page(socket) =~ @clip_error.message(:no_photo)
        refute page(socket) =~ "a dog"
        refute page(event("choose", with_files(socket, ["dog.jpg"]))) =~ "alert"
      end
    end

    test "wrong and too many files are told, each beside its name, until they are removed" do
      socket = mount(["dog.jpg", "pizza.webp"], [{"2", :too_large}, {"phx-1", :too_many_files}])
      assert page(socket) =~ ~s(<button disabled>What)
      assert page(socket) =~ @clip_error.message(:too_many_files)
      [_, _, removed] = String.split(page(socket), "<div>")
      assert removed =~ @clip_error.message(%{reason: :image_too_large})

      socket =
        event("remove", %{"ref" => "2"}, mount(["dog.jpg", "pizza.webp"], [{"2", :too_large}]))

      assert page(socket) =~ ~s(<button>What)
      assert page(socket) =~ "dog.jpg"
      refute page(socket) =~ "pizza.webp"
    end

    test "a call that is cancelled disappears, and the others go on" do
      socket = event("classify", mount(["dog.jpg", "pizza.webp"]))
      [%{ref: ref} | _] = Enum.filter(socket.assigns.photos, &(&1.name == "dog.jpg"))
      socket = event("cancel", %{"ref" => ref}, socket)
      refute Map.has_key?(socket.private, ref)
      refute page(socket) =~ "<h2>dog.jpg"

      {:noreply, socket} = @live.handle_async(ref, {:exit, {:shutdown, :cancel}}, socket)
      refute page(socket) =~ "alert"
      assert page(finish(socket)) =~ "a pizza"
    end
  end

  test "every reason has words of its own" do
    claimed = @bad_picture ++ @try_again
    words = for reason <- claimed, do: @clip_error.message(%Error{reason: reason, message: ""})

    # The last two share theirs.
    assert length(Enum.uniq(words)) == length(claimed) - 1
    for fault <- [:too_large, :not_accepted], do: assert(@clip_error.message(fault) in words)
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

  describe "before the body is read" do
    test "bodies that are too large are refused, however full it is" do
      conn = admit(8_000_001)
      assert {conn.status, conn.resp_body} == {413, %{"error" => "image_too_large"}}
      assert conn.halted
      assert {"connection", "close"} in conn.resp_headers
      assert %{halted: false} = admit(8_000_000)
      assert %{error: :image_too_large} = MyAppWeb.ErrorJSON.render("413.json", %{})
      assert %{errors: _} = MyAppWeb.ErrorJSON.render("404.json", %{})
    end

    test "uploads are refused when the queue is full, by calls or by uploads on their way" do
      fill(fn -> assert %{status: 503, halted: true} = admit(1) end)

      {:ok, %{queue: %{max: max}}} = Image.ZeroShot.info()

      uploads =
        for _ <- 1..max, do: Task.async(fn -> {admit(1), receive(do: (:answer -> :ok))} end)

      counted(max)
      conn = admit(1)
      assert {conn.status, conn.resp_body} == {503, %{"error" => "overloaded"}}
      assert {"retry-after", "2"} in conn.resp_headers

      Process.exit(hd(uploads).pid, :kill)
      Process.unlink(hd(uploads).pid)
    end

    test "a place is free after the answer, and nothing else is held up" do
      conn = admit(1)
      assert Registry.count(MyApp.Uploads) == 1
      Phoenix.Controller.json(conn, %{})
      assert Registry.count(MyApp.Uploads) == 0

      without_serving(fn ->
        assert %{status: 503, resp_body: %{"error" => "serving_down"}} = admit(1)
        assert %{status: nil, halted: false} = @admit.call(%Plug.Conn{path_info: ["photos"]}, [])
      end)
    end
  end

  test "health is that of the serving, for its path alone" do
    assert %{status: 200, resp_body: "emoji-clip on " <> _, halted: true} = health(["health"])

    without_serving(fn ->
      assert %{status: 503, resp_body: "serving_down", halted: true} = health(["health"])
    end)

    assert %{status: nil, halted: false} = health(["photos"])
  end

  test "the page of the dashboard shows the serving, and what is wrong" do
    assert @page.menu_link(%{}, %{}) == {:ok, "Image.ZeroShot"}
    shown = dashboard(node())
    assert shown =~ "<h5>Queue</h5><p>admitted: 0</p>"
    assert shown =~ "<p>state: :ready</p>"
    assert shown =~ "<p>name: emoji-clip</p>"

    without_serving(fn -> assert dashboard(node()) =~ "<p>reason: :serving_down</p>" end)
    assert dashboard(:"no@such-node") =~ "<p>reason: :nodedown</p>"
  end

  defp dashboard(node) do
    %{page: %{node: node}}
    |> @page.render()
    |> IO.iodata_to_binary()
    |> String.replace(~r/>\s+</, "><")
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

    metrics = Image.ZeroShot.Telemetry.metrics()
    assert length(metrics) > 5

    for %{event_name: [@app | event]} = metric <- metrics,
        field <- [metric.measurement | metric.tags] do
      assert Map.fetch!(documented, event) =~ "`:#{field}`"
      assert field in Map.get(emitted, [@app | event], []), "#{inspect(event)} has no #{field}"
      assert metric.measurement != :duration or metric.unit == {:native, :millisecond}
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

  defp mount(files, errors \\ []) do
    {:ok, socket} = @live.mount(%{}, %{}, %Socket{})
    socket = with_files(socket, files)
    put_in(socket.assigns.uploads.photo.errors, errors)
  end

  # Samples by their name, or bytes with a name.
  defp with_files(socket, files) do
    entries =
      for {file, number} <- Enum.with_index(files, 1) do
        {bytes, name} = if is_binary(file), do: {Pictures.sample_bytes(file), file}, else: file
        %{ref: "#{number}", client_name: name, progress: 40, path: temporary(bytes)}
      end

    put_in(socket.assigns.uploads.photo.entries, entries)
  end

  defp event(name, params \\ %{}, socket) do
    {:noreply, socket} = @live.handle_event(name, params, socket)
    socket
  end

  # As LiveView: each in a process of its own, with what the function returns.
  defp finish(socket) do
    socket.private
    |> Enum.reduce(%{socket | private: %{}}, fn {ref, task}, socket ->
      result = task |> Task.async() |> Task.await()
      {:noreply, socket} = @live.handle_async(ref, {:ok, result}, socket)
      socket
    end)
    |> with_files([])
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

  defp admit(bytes) do
    headers = [{"content-length", "#{bytes}"}]
    conn = %Plug.Conn{method: "POST", path_info: ["api", "labels"], req_headers: headers}
    @admit.call(conn, @admit.init([]))
  end

  defp counted(number),
    do: if(Registry.count(MyApp.Uploads) < number, do: counted(number), else: :ok)

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
