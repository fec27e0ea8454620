defmodule Image.ZeroShot.ClusterTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Serving.{Client, Directory, Handle, Remote, Server}
  alias Image.ZeroShot.Test.{Cluster, Runner}

  @moduletag timeout: 120_000

  setup_all do: Cluster.peer()

  setup %{peer: peer} do
    # The test before may have cut the connection.
    assert Node.connect(peer.node)
    name = :"Cluster#{System.unique_integer([:positive])}"
    {:ok, name: name, key: {:name, name}}
  end

  # Whatever a test did to its caller, nothing of the library may be left.
  setup do
    on_exit(fn -> eventually(fn -> couriers() == [] end) end)
  end

  defp peer do
    peer = Cluster.start()
    on_exit(fn -> Cluster.stop(peer) end)
    peer
  end

  defp serve(peer, name, more \\ []) do
    server = Cluster.serve(peer, name, more)
    eventually(fn -> server in :pg.get_members(Image.ZeroShot.Serving.Cluster, {:name, name}) end)
    server
  end

  defp couriers do
    for pid <- Process.list(),
        {:current_stacktrace, stack} <- [Process.info(pid, :current_stacktrace)],
        Enum.any?(stack, fn {module, function, _, _} ->
          module == Remote and function in [:connect, :admitted, :attend_caller, :run_there]
        end),
        pid != self(),
        do: pid
  end

  defp async(name, more \\ [], pixels \\ [<<7>>]) do
    Task.async(fn ->
      answer = Runner.call(Runner.opts([serving: name] ++ more), pixels)
      {answer, System.monotonic_time(:millisecond), Process.info(self(), :message_queue_len)}
    end)
  end

  # The answer, and when it came. The caller's mailbox has to be empty.
  defp answer(task) do
    {answer, at, {:message_queue_len, 0}} = await(task)
    {answer, at}
  end

  defp admitted(peer, server) do
    {:ok, info} = :peer.call(peer.control, Handle, :describe, [server])
    info.queue.admitted
  end

  defp idle(peer, server), do: eventually(fn -> admitted(peer, server) == 0 end)
  defp now, do: System.monotonic_time(:millisecond)

  test "takes the local serving before another node's", %{peer: peer, name: name, key: key} do
    remote = serve(peer, name, run: :answer)
    opts = Runner.opts(serving: name)

    assert {:ok, {_, _, _}} = Runner.call(opts, [<<1>>])
    assert {:ok, %{node: node}} = Client.info(opts)
    assert node == peer.node

    {:ok, local} = Server.start_link(key, Runner.ready(serving: name))
    {:ok, _} = Handle.await(local)
    assert {:ok, %{node: node, batches: %{count: 0}}} = Client.info(opts)
    assert node == node()
    assert {:ok, _} = Runner.call(opts, [<<1>>])
    assert {:ok, %{batches: %{count: 1}}} = Client.info(opts)

    :ok = Handle.unload(local)
    eventually(fn -> :pg.get_members(Image.ZeroShot.Serving.Cluster, key) == [remote] end)
    :ok = :peer.call(peer.control, Handle, :unload, [remote])
    eventually(fn -> Directory.others(key) == [] end)
    assert {:error, %Error{reason: :serving_down} = error} = Runner.call(opts, [<<1>>])
    assert error.message =~ "supervision tree"
    assert {:error, %Error{reason: :serving_down}} = Client.info(opts)
  end

  test "parts come from the node of the serving", %{peer: peer, name: name} do
    serve(peer, name, run: :answer)
    needs = %{pictures: 1, decoded_here: 0, prompts: [], parts: 1}
    {:ok, lease} = Client.checkout(Runner.opts(serving: name), needs)
    assert {:ok, answer} = Client.run(lease, [<<7>>], ["dog"], :parts)
    assert <<1.0::float-32-native, 6.0::float-32-native>> = answer.images
    assert <<3.0::float-32-native>> = answer.texts
    assert {:ok, %{images: <<7.0::float-32-native>>}} = Client.run(lease, [<<7>>], [])
    Client.checkin(lease)
  end

  test "prepares here, and only what is admitted there", %{peer: peer, name: name} do
    server = serve(peer, name, max_queue: 1)
    first = async(name)
    assert_receive {:run, ^server, _, _, _} = run

    refused = fn _lease -> flunk("prepared what is refused") end

    assert {:error, %Error{reason: :overloaded}} =
             Runner.call(Runner.opts(serving: name), refused)

    Runner.answer(run)
    assert {{:ok, _}, _} = answer(first)
    idle(peer, server)

    test = self()

    prepare = fn lease ->
      send(test, {:prepared, node(), lease.info.max_batch})
      {:ok, [<<9>>]}
    end

    second = Task.async(fn -> Runner.call(Runner.opts(serving: name), prepare) end)
    assert_receive {:prepared, node, 4}
    assert node == node()
    assert_receive {:run, ^server, _, [<<9>>], _} = run
    Runner.answer(run)
    assert {:ok, _} = await(second)
  end

  test "a killed node is replaced once by another", %{name: name} do
    [one, two] = [peer(), peer()]
    servers = %{serve(one, name) => one, serve(two, name) => two}
    task = async(name)
    assert_receive {:run, first, _, _, _}
    Cluster.signal(servers[first], "-KILL")
    assert_receive {:run, second, _, [<<7>>], _} = run
    assert second != first
    Runner.answer(run)
    assert {{:ok, _}, _} = answer(task)

    eventually(fn ->
      :pg.get_members(Image.ZeroShot.Serving.Cluster, {:name, name}) == [second]
    end)

    task = async(name)
    assert_receive {:run, ^second, _, _, _}
    killed = now()
    Cluster.signal(servers[second], "-KILL")
    assert {{:error, %Error{reason: :node_down}}, at} = answer(task)
    # Long before its time is over.
    assert at - killed < 15_000
  end

  test "a lost connection is an error, and frees the place", %{peer: peer, name: name} do
    server = serve(peer, name, max_queue: 1)
    task = async(name)
    assert_receive {:run, ^server, _, _, _} = run
    cut = now()
    Node.disconnect(peer.node)
    assert {{:error, %Error{reason: :node_down}}, at} = answer(task)
    assert at - cut < 15_000
    eventually(fn -> Directory.others({:name, name}) == [] end)

    idle(peer, server)
    true = Node.connect(peer.node)
    Runner.answer(run)
    eventually(fn -> Directory.others({:name, name}) == [server] end)
    task = async(name)
    assert_receive {:run, ^server, _, _, _} = run
    Runner.answer(run)
    assert {{:ok, _}, _} = answer(task)
  end

  for {callers, bytes} <- [{1, 1}, {60, 150_528}] do
    test "a node that stands still: #{callers} callers, #{bytes} bytes", context do
      %{peer: peer, name: name} = context
      server = serve(peer, name)
      pixels = [:binary.copy(<<7>>, unquote(bytes))]
      test = self()

      # All are admitted, and send when the node already stands still.
      prepare = fn _lease ->
        send(test, {:preparing, self()})
        receive do: (:go -> {:ok, pixels})
      end

      tasks =
        for _ <- 1..unquote(callers) do
          Task.async(fn ->
            opts = Runner.opts(serving: name, timeout: 4_000)
            from = now()
            answer = Runner.call(opts, prepare)
            {answer, now() - from, Process.info(self(), :message_queue_len)}
          end)
        end

      callers =
        for _ <- tasks do
          assert_receive {:preparing, caller}
          caller
        end

      Cluster.signal(peer, "-STOP")
      Enum.each(callers, &send(&1, :go))

      for task <- tasks do
        assert {{:error, %Error{reason: :timeout}}, took, {:message_queue_len, 0}} = await(task)

        # As long as the node stands still, where a sender waits for the connection.
        assert took < 20_000
      end

      Cluster.signal(peer, "-CONT")
      idle(peer, server)
      eventually(fn -> couriers() == [] end)
      again = async(name, [], [<<9>>])
      Runner.answer(next_run(server, [<<9>>]))
      assert {{:ok, _}, _} = answer(again)
      idle(peer, server)
    end
  end

  # A run of a caller that has given up may have begun before.
  defp next_run(server, pixels) do
    assert_receive {:run, ^server, _, asked, _} = run

    if asked == pixels do
      run
    else
      Runner.answer(run)
      next_run(server, pixels)
    end
  end

  test "a killed serving reaches callers whose pixels are not there yet",
       %{peer: peer, name: name} do
    server = serve(peer, name)
    test = self()

    # Pixels that never come.
    prepare = fn %{monitor: monitor} ->
      send(test, :preparing)

      receive do
        {:DOWN, ^monitor, :process, _courier, {:shutdown, error}} -> {:error, error}
      end
    end

    opts = Runner.opts(serving: name, timeout: 60_000)
    task = Task.async(fn -> {Runner.call(opts, prepare), now(), mailbox()} end)
    assert_receive :preparing
    Process.exit(server, :kill)
    assert {{:error, %Error{reason: :serving_down}}, _} = answer(task)
  end

  defp mailbox, do: Process.info(self(), :message_queue_len)

  test "what a killed caller asked for is dropped", %{peer: peer, name: name} do
    server = serve(peer, name)
    first = async(name)
    assert_receive {:run, ^server, _, _, _} = run

    caller = spawn(fn -> Runner.call(Runner.opts(serving: name, timeout: 60_000), [<<8>>]) end)
    eventually(fn -> waiting(peer, server) == 1 end)
    Process.exit(caller, :kill)
    eventually(fn -> admitted(peer, server) == 1 end)
    Runner.answer(run)
    assert {{:ok, _}, _} = answer(first)
    idle(peer, server)
    refute_received {:run, _, _, _, _}
  end

  test "all tasks of a process are one owner there too", %{peer: peer, name: name} do
    server = serve(peer, name)
    first = async(name)
    assert_receive {:run, ^server, _, _, _} = run

    many =
      for n <- 1..6 do
        task = async(name, [], [<<n>>])
        eventually(fn -> waiting(peer, server) == n end)
        task
      end

    spawn_link(fn -> Runner.call(Runner.opts(serving: name), [<<77>>]) end)
    eventually(fn -> waiting(peer, server) == 7 end)
    Runner.answer(run)
    assert_receive {:run, ^server, _, [<<1>>, <<77>>, <<2>>, <<3>>], _} = run
    Runner.answer(run)
    assert_receive {:run, ^server, _, [<<4>>, <<5>>, <<6>>], _} = run
    Runner.answer(run)
    for task <- [first | many], do: assert({{:ok, _}, _} = answer(task))
    idle(peer, server)
  end

  defp waiting(peer, server) do
    {:ok, info} = :peer.call(peer.control, Handle, :describe, [server])
    info.queue.waiting
  end

  test "other versions refuse each other", %{name: name} do
    peer = peer()
    server = serve(peer, name, run: :answer)

    Node.spawn(peer.node, Remote, :attend, [1, server, self(), 1_000])
    assert_receive {:refused, _attendant, {:error, %Error{reason: :incompatible} = error}}
    assert error.message =~ "#{peer.node}"
    assert error.message =~ "same version"

    # A version that does not know what is called.
    :peer.call(peer.control, Code, :compiler_options, [[ignore_module_conflict: true]])
    empty = "defmodule #{inspect(Remote)}, do: nil"
    :peer.call(peer.control, Code, :compile_string, [empty])

    log =
      capture_log(fn ->
        task = async(name)
        assert {{:error, %Error{reason: :incompatible} = error}, _} = answer(task)
        assert error.message =~ "#{peer.node}"
        assert error.message =~ "same version"
      end)

    refute log =~ "Remote"
  end

  test "a serving that is killed is replaced once by another", %{peer: peer, name: name} do
    other = peer()
    peers = %{serve(peer, name) => peer, serve(other, name) => other}
    task = async(name)
    assert_receive {:run, first, _, _, _}
    Process.exit(first, :kill)
    assert_receive {:run, second, _, _, _} = run
    assert node(second) != peers[first].node
    Runner.answer(run)
    assert {{:ok, _}, _} = answer(task)

    task = async(name)
    assert_receive {:run, ^second, _, _, _}
    Process.exit(second, :kill)
    assert {{:error, %Error{reason: :serving_down}}, _} = answer(task)
    eventually(fn -> Directory.others({:name, name}) == [] end)
  end
end
