# The modules of the guide "Scaling" on the real FLAME and Broadway.
#
# Neither is a dependency, so `bin/test` runs only the blocks that need nothing else. With `{:flame, "~> 0.5"}` and
# `{:broadway, "~> 1.2"}` among the `deps` of mix.exs, this should pass:
#
#     MIX_ENV=test mix run test/oracle/scaling_guide.exs
#
# FLAME's machines are nodes on the loopback interface here.

ExUnit.start(autorun: false, timeout: 300_000)
Logger.configure(level: :error)

for app <- [:flame, :broadway] do
  {:ok, _} = Application.ensure_all_started(app)
  IO.puts("#{app} #{Application.spec(app, :vsn)}")
end

alias Image.ZeroShot.Test.{Cluster, Markdown}

{:module, backend, beam, _} =
  defmodule Image.ZeroShot.Oracle.PeerBackend do
    @behaviour FLAME.Backend

    @impl true
    def init(_opts) do
      ref = make_ref()
      parent = FLAME.Parent.new(ref, self(), __MODULE__, "peer", nil)
      {:ok, %{ref: ref, env: FLAME.Parent.encode(parent), node: nil}}
    end

    @impl true
    def remote_boot(%{ref: ref} = state) do
      peer = Cluster.start()
      # What the environment of a machine and the boot of a release do.
      :peer.call(peer.control, System, :put_env, ["FLAME_PARENT", state.env])
      beam = :persistent_term.get(__MODULE__)
      {:module, _} = :peer.call(peer.control, :code, :load_binary, [__MODULE__, ~c"oracle", beam])
      {:ok, _} = :peer.call(peer.control, :application, :ensure_all_started, [:flame], 60_000)

      receive do
        {^ref, {:remote_up, terminator}} ->
          send(:oracle, {:machine, peer})
          {:ok, terminator, %{state | node: node(terminator)}}
      after
        60_000 -> exit(:timeout)
      end
    end

    @impl true
    def remote_spawn_monitor(state, function) when is_function(function, 0),
      do: {:ok, Node.spawn_monitor(state.node, function)}

    def remote_spawn_monitor(state, {module, function, arguments}),
      do: {:ok, Node.spawn_monitor(state.node, module, function, arguments)}

    @impl true
    def system_shutdown, do: System.stop()
  end

:persistent_term.put(backend, beam)

blocks = "guides/scaling.md" |> File.read!() |> Markdown.blocks("elixir")

{_, warnings} =
  ExUnit.CaptureIO.with_io(:stderr, fn ->
    for {line, "# lib/" <> _ = code} <- blocks,
        do: Code.compile_string(code, "guides/scaling.md:#{line}")
  end)

if warnings != "", do: raise("the guide's modules compile with warnings: #{warnings}")

defmodule Image.ZeroShot.Oracle.ScalingGuide do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Serving.Directory
  alias Image.ZeroShot.Test.Cluster

  @dog {:path, "priv/samples/dog.jpg"}
  @labels ["a cat", "a dog", "a pizza"]
  @clip [serving: MyApp.Clip]

  setup_all do
    Cluster.distribute()
    Application.put_env(:flame, :backend, Image.ZeroShot.Oracle.PeerBackend)
    :ok
  end

  test "FLAME: the serving is placed on a machine, called by its name, and placed again when that is lost" do
    Process.register(self(), :oracle)
    # As the guide has it, but for the model.
    pool =
      {FLAME.Pool,
       name: MyApp.ClipPool, min: 0, max: 1, max_concurrency: 1, boot_timeout: 180_000}

    runner = {MyApp.ClipRunner, [name: MyApp.Clip, repo: :embedded, device: :cpu]}
    started = System.monotonic_time(:millisecond)
    {:ok, _} = Supervisor.start_link([pool, runner], strategy: :one_for_one)
    assert_receive {:machine, first}, 120_000
    eventually(fn -> match?({:ok, _}, Image.ZeroShot.try_label(@dog, @labels, @clip)) end)

    IO.puts(
      "first answer after #{System.monotonic_time(:millisecond) - started} ms, node and model included"
    )

    assert {:ok, %{node: node, name: "emoji-clip"}} = Image.ZeroShot.info(@clip)
    assert node == first.node and node != node()
    assert Image.ZeroShot.label(@dog, @labels, @clip) == "a dog"

    # The model's process dies: FLAME does not restart it, its keeper does.
    [server] = Directory.others({:name, MyApp.Clip})
    Process.exit(server, :kill)
    eventually(fn -> server not in Directory.others({:name, MyApp.Clip}) end)
    eventually(fn -> match?({:ok, "a dog"}, Image.ZeroShot.try_label(@dog, @labels, @clip)) end)
    assert {:ok, %{node: ^node}} = Image.ZeroShot.info(@clip)

    killed = System.monotonic_time(:millisecond)
    Cluster.signal(first, "-KILL")
    eventually(fn -> match?({:error, _}, Image.ZeroShot.try_label(@dog, @labels, @clip)) end)
    assert_receive {:machine, second}, 120_000
    eventually(fn -> match?({:ok, "a dog"}, Image.ZeroShot.try_label(@dog, @labels, @clip)) end)

    IO.puts(
      "answers again #{System.monotonic_time(:millisecond) - killed} ms after the machine was killed"
    )

    assert {:ok, %{node: node}} = Image.ZeroShot.info(@clip)
    assert node == second.node
    Cluster.stop(second)
  end

  test "Broadway: every message of a batch gets its embedding, or fails alone" do
    Application.put_env(:image_zero_shot, :repo, :embedded)
    {:ok, _} = MyApp.ClipPipeline.start_link(producer: {Broadway.DummyProducer, []})
    paths = ["priv/samples/dog.jpg", "/no/such.jpg", "priv/samples/cat.png"]
    ref = Broadway.test_batch(MyApp.ClipPipeline, paths)
    assert_receive {:ack, ^ref, successful, failed}, 60_000
    assert length(successful) == 2
    assert [%{data: "/no/such.jpg", status: {:failed, :not_found}}] = failed
    assert Enum.all?(successful, &is_struct(&1.data, Image.ZeroShot.Embedding))
  after
    Application.delete_env(:image_zero_shot, :repo)
  end
end

if ExUnit.run().failures > 0, do: System.halt(1)
