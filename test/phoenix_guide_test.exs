defmodule Image.ZeroShot.PhoenixGuideTest do
  # The guide is for projects with Phoenix, which is not here: its modules are compiled and run with
  # the stand-ins of test/support/phoenix_stand_ins.ex, and with the embedded model. That pages and
  # requests look like this is Phoenix's business; that the calls, the reasons and the names in the
  # guide are right is checked here.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.PhoenixApp

  alias Image.ZeroShot.Packaging
  alias Image.ZeroShot.Serving.Directory
  alias Image.ZeroShot.Test.PhoenixGuide

  @moduletag :capture_log

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

  @page MyAppWeb.ClipPage

  setup_all do: start!()

  test "its modules are whole, and compile without a warning", context do
    assert context.warnings == ""

    assert Enum.sort(context.modules) == @modules
  end

  test "its changes fit into what Phoenix generates", context do
    for path <- only_read() do
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
      assert_receive {:DOWN, ^monitor, :process, ^server, :killed}, 30_000

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

  # The supervisor may hear of the end later than the test does, and answers nobody while it starts
  # the next one.
  defp restarted(server) do
    children = Supervisor.which_children(MyApp.Supervisor)
    {_id, child, _type, _modules} = List.keyfind!(children, @serving, 0)
    if child == server, do: restarted(server), else: child
  end
end
