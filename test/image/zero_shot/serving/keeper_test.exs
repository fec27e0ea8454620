defmodule Image.ZeroShot.KeeperTest do
  # Stops the application.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Serving.{Client, Directory, Keeper, Load}
  alias Image.ZeroShot.Test.Runner

  @dog {:path, "priv/samples/dog.jpg"}
  @gone %Error{reason: :not_found, message: "no such directory"}

  # A tree as an application's own, with the limits that a supervisor has by default. It ends with
  # the test, and does not take it along.
  defp plant(children, opts \\ []) do
    test = self()

    owner =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        started = Supervisor.start_link(children, opts ++ [strategy: :one_for_one])
        send(test, {:tree, started})

        receive do
          {:EXIT, _supervisor, reason} -> send(test, {:tree_ended, reason})
          :stop -> with {:ok, supervisor} <- started, do: Supervisor.stop(supervisor)
        end
      end)

    on_exit(fn -> send(owner, :stop) end)
  end

  defp planted do
    assert_receive {:tree, started}
    started
  end

  defp tree(children, opts \\ []) do
    plant(children, opts)
    planted()
  end

  defp tree!(children, opts \\ []) do
    assert {:ok, supervisor} = tree(children, opts)
    supervisor
  end

  defp child(supervisor, module \\ Serving) do
    Enum.find_value(Supervisor.which_children(supervisor), fn {_id, pid, _type, modules} ->
      if modules == [module], do: pid
    end)
  end

  defp server(name) do
    eventually(fn -> match?({_, %{}}, Directory.lookup({:name, name})) end)
    {server, _entry} = Directory.lookup({:name, name})
    server
  end

  defp name, do: :"#{__MODULE__}#{System.unique_integer([:positive])}"

  describe "a serving whose model is gone when it starts again" do
    @describetag :tmp_dir

    setup %{tmp_dir: dir} do
      model = Path.join(dir, "model")
      File.cp_r!(Application.app_dir(:image_zero_shot, "priv/models/emoji-clip"), model)
      name = name()

      spec =
        {Serving,
         name: name, repo: {:local, model}, device: :cpu, cache_dir: Path.join(dir, "cache")}

      %{name: name, model: model, spec: spec}
    end

    defp move(model), do: File.rename!(model, model <> ".away")
    defp move_back(model), do: File.rename!(model <> ".away", model)

    defp label(name), do: ZeroShot.try_label(@dog, ["cat", "dog"], serving: name, timeout: 60_000)

    defp assert_failed(name, model) do
      eventually(fn -> match?({:ok, %{state: :failed}}, ZeroShot.info(serving: name)) end)
      assert {:ok, info} = ZeroShot.info(serving: name)
      assert %{name: "model", last_error: %Error{reason: :not_found}, retry_in: pause} = info
      assert pause in 0..60_000
      assert {:error, %Error{reason: :not_found, message: message}} = label(name)
      assert message =~ model
      assert {:error, %Error{reason: :not_found}} = ZeroShot.load(serving: name)
    end

    defp assert_ready(name) do
      eventually(fn -> match?({:ok, %{state: :ready}}, ZeroShot.info(serving: name)) end)
      assert {:ok, %{last_error: nil, retry_in: nil}} = ZeroShot.info(serving: name)
      assert label(name) == {:ok, "dog"}
    end

    test "tells its callers and the log why, tries again, and costs no restart", context do
      %{name: name, model: model, spec: spec} = context
      supervisor = tree!([spec])
      keeper = child(supervisor)
      assert_ready(name)

      log =
        capture_log(fn ->
          move(model)
          kill(server(name))
          assert_failed(name, model)
        end)

      assert log =~ ~r/the serving #{inspect(name)} of {:local, ".*model"} terminated \(killed\)/
      assert log =~ ~r/cannot be loaded again: .*model.*\(:not_found\); the next try is in 1 s/
      assert child(supervisor) == keeper

      log =
        capture_log(fn ->
          move_back(model)
          assert_ready(name)
        end)

      assert log =~ "is loaded again"
      assert child(supervisor) == keeper
      refute_received {:tree_ended, _}
    end

    test "does so when what the supervisor started is killed", context do
      %{name: name, model: model, spec: spec} = context
      supervisor = tree!([spec])

      capture_log(fn ->
        move(model)
        kill(child(supervisor))
        assert_failed(name, model)
        move_back(model)
        assert_ready(name)
      end)

      assert is_pid(child(supervisor))
      refute_received {:tree_ended, _}
    end

    test "does so when the supervisor restarts it because of another child", context do
      %{name: name, model: model, spec: spec} = context
      supervisor = tree!([{Agent, fn -> 1 end}, spec], strategy: :rest_for_one)

      capture_log(fn ->
        move(model)
        kill(child(supervisor, Agent))
        assert_failed(name, model)
        move_back(model)
        assert_ready(name)
      end)

      refute_received {:tree_ended, _}
    end

    test "is an error of the start where that is the first, or names another model", context do
      %{name: name, model: model, spec: {Serving, opts} = spec} = context
      move(model)

      assert {:error, {:shutdown, {:failed_to_start_child, _, %Error{reason: :not_found}}}} =
               tree([spec])

      move_back(model)
      supervisor = tree!([spec])
      assert_ready(name)
      :ok = Supervisor.terminate_child(supervisor, {Serving, name})
      assert {:error, %Error{reason: :serving_down}} = label(name)

      other = Keyword.put(opts, :repo, {:local, model <> ".other"})
      assert {:error, %Error{reason: :not_found}} = Serving.start_link(other)
      refute_received {:EXIT, _, _}
      assert {:ok, _} = Supervisor.restart_child(supervisor, {Serving, name})
      assert_ready(name)
    end
  end

  describe "kills" do
    defp spec(name, opts) do
      arguments = [{:name, name}, opts]
      %{id: Serving, start: {Keeper, :start_link, arguments}, modules: [Serving]}
    end

    defp call(name), do: Runner.call(Runner.opts(serving: name, timeout: 10_000), [<<1>>])

    test "of the process with the model, however many, leave the supervisor alone" do
      name = name()
      supervisor = tree!([spec(name, Runner.ready(serving: name))])
      keeper = child(supervisor)

      capture_log(fn ->
        for _ <- 1..7 do
          server = server(name)
          kill(server)
          eventually(fn -> match?({:ok, _}, call(name)) end)
        end
      end)

      assert child(supervisor) == keeper
      refute_received {:tree_ended, _}
    end

    test "of what the supervisor started, five in a row, do not end it" do
      name = name()
      supervisor = tree!([spec(name, Runner.ready(serving: name))])

      capture_log(fn ->
        for _ <- 1..5 do
          server = server(name)
          monitor = Process.monitor(server)
          kill(child(supervisor))
          # No model stays without a keeper.
          assert_receive {:DOWN, ^monitor, :process, ^server, _reason}
          assert is_pid(child(supervisor))
          assert {:ok, _} = call(name)
        end
      end)

      refute_received {:tree_ended, _}
    end

    test "are waited out by calls that come after them" do
      name = name()
      opts = Runner.opts(serving: name, run: :answer)
      plant([spec(name, opts)])
      assert_receive {:opening, loader}
      send(loader, {:open, :ok})
      assert {:ok, _supervisor} = planted()

      test = self()

      log =
        capture_log(fn ->
          kill(server(name))
          # The keeper logs before it starts another one.
          assert_receive {:opening, loader}
          send(test, {:loader, loader})
        end)

      assert log =~ "terminated (killed), and starts again now"
      assert_received {:loader, loader}
      assert {:ok, %{name: "stand-in", state: :loading}} = Client.info(opts)
      call = Task.async(fn -> call(name) end)
      refute Task.yield(call, 50)
      send(loader, {:open, :ok})
      assert {:ok, _} = Task.await(call)
    end

    test "before the first load is done are an error of the start" do
      name = name()
      plant([spec(name, Runner.opts(serving: name))])
      assert_receive {:opening, _loader}
      kill(server(name))

      assert {:error, {:shutdown, {:failed_to_start_child, _, %Error{} = error}}} = planted()
      assert error.reason == :serving_down
      assert error.message =~ "killed"
    end
  end

  test "calls are not kept waiting by a try that goes on for long" do
    name = name()
    opts = Runner.opts(serving: name, run: :answer)
    plant([spec(name, opts)])
    assert_receive {:opening, loader}
    send(loader, {:open, :ok})
    assert {:ok, _supervisor} = planted()

    capture_log(fn ->
      kill(server(name))
      assert_receive {:opening, loader}
      send(loader, {:open, {:error, @gone}})
      eventually(fn -> call(name) == {:error, @gone} end)
      assert {:ok, %{state: :failed, last_error: @gone}} = Client.info(opts)

      # The next try, which does not end.
      assert_receive {:opening, loader}
      assert call(name) == {:error, @gone}

      assert {:ok, %{state: :loading, last_error: @gone, retry_in: nil}} = Client.info(opts)

      # A crash is a failure like any other.
      send(loader, {:open, :raise})
      eventually(fn -> match?({:error, %Error{reason: :internal}}, call(name)) end)
      assert_receive {:opening, loader}
      send(loader, {:open, :ok})
      eventually(fn -> match?({:ok, _}, call(name)) end)
    end)
  end

  test "the pauses between tries grow to a minute" do
    loads =
      Enum.scan(1..10, {nil, %Load{facts: %{}}}, fn _, {_, load} -> Load.failed(load, @gone) end)

    assert for({pause, _} <- loads, do: div(pause, 1_000)) == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert Load.failed(%Load{}, @gone) == :over
  end

  test "a serving outlives the application of the library, and comes back with it" do
    name = name()
    supervisor = tree!([spec(name, Runner.ready(serving: name))])
    assert {:ok, _} = call(name)
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:image_zero_shot) end)

    capture_log(fn ->
      :ok = Application.stop(:image_zero_shot)
      assert {:error, %Error{reason: :serving_down}} = call(name)
      {:ok, _} = Application.ensure_all_started(:image_zero_shot)
      eventually(fn -> match?({:ok, _}, call(name)) end)
    end)

    assert is_pid(child(supervisor))

    assert {:error, {:already_started, _}} = Keeper.start_link({:name, name}, Runner.ready())

    refute_received {:tree_ended, _}
  end

  test "a serving that has run for long pauses between its tries as well" do
    name = name()
    tree!([spec(name, Runner.ready(serving: name))])
    {keeper, _nothing} = Directory.find({:keeper, {:name, name}})
    :sys.replace_state(keeper, &%{&1 | started: &1.started - 60_000})
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:image_zero_shot) end)

    log =
      capture_log(fn ->
        :ok = Application.stop(:image_zero_shot)
        # It listens between them.
        eventually(fn -> :sys.get_state(keeper, 30_000).server == nil end)
        {:ok, _} = Application.ensure_all_started(:image_zero_shot)
        eventually(fn -> match?({:ok, _}, call(name)) end)
      end)

    assert log =~ "starts again in 100 ms"
  end

  @embedded [repo: :embedded, device: :cpu]

  # Everything that can be asked, of a serving with a name and of one without.
  defp calls(name) do
    for opts <- [@embedded, [serving: name]],
        call <- [
          fn -> ZeroShot.try_label(@dog, ["cat", "dog"], opts) end,
          fn -> ZeroShot.try_classify(@dog, ["a #{System.unique_integer()}"], opts) end,
          fn -> ZeroShot.try_similarity(@dog, @dog, opts) end,
          fn -> ZeroShot.try_classifier(["cat"], opts) end,
          fn -> [@dog] |> ZeroShot.classify_many(["cat"], opts) |> Enum.to_list() end,
          fn -> ZeroShot.load(opts) end,
          fn -> ZeroShot.info(opts) end,
          fn -> ZeroShot.unload(@embedded) end
        ],
        do: call
  end

  # What is wrong with what came of a call, if anything is.
  defp fault(call) do
    case call.() do
      :ok -> nil
      {:ok, _} -> nil
      [{_, {:ok, _}}] -> nil
      {:error, %Error{} = error} -> fault_of(error)
      [{_, {:error, %Error{} = error}}] -> fault_of(error)
    end
  rescue
    error in Error -> fault_of(error)
    error -> {:raised, error, __STACKTRACE__}
  catch
    kind, reason -> {kind, reason, __STACKTRACE__}
  end

  defp fault_of(%{reason: reason}) when reason in [:serving_down, :model_unloaded], do: nil
  defp fault_of(error), do: error

  defp call_until(stop, calls, faults) do
    if :counters.get(stop, 1) == 0 do
      fault = fault(Enum.random(calls))
      call_until(stop, calls, if(fault, do: [fault | faults], else: faults))
    else
      {faults, Process.info(self(), :message_queue_len)}
    end
  end

  test "calls while the application stops and starts end in typed errors" do
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:image_zero_shot) end)
    name = name()
    tree!([{Serving, [name: name] ++ @embedded}])
    stop = :counters.new(1, [])

    capture_log(fn ->
      callers = for _ <- 1..6, do: Task.async(fn -> call_until(stop, calls(name), []) end)

      for _ <- 1..6 do
        Process.sleep(150)
        :ok = Application.stop(:image_zero_shot)
        Process.sleep(20)
        {:ok, _} = Application.ensure_all_started(:image_zero_shot)
      end

      :counters.add(stop, 1, 1)

      for {faults, mailbox} <- Task.await_many(callers, 60_000) do
        assert faults == []
        assert mailbox == {:message_queue_len, 0}
      end

      eventually(fn -> match?({:ok, _}, ZeroShot.try_label(@dog, ["dog"], serving: name)) end)
    end)

    refute_received {:tree_ended, _}
  end

  test "a serving that waits for its model outlives it too" do
    name = name()
    opts = Runner.opts(serving: name, run: :answer)
    plant([spec(name, opts)])
    assert_receive {:opening, loader}
    send(loader, {:open, :ok})
    assert {:ok, _supervisor} = planted()
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:image_zero_shot) end)

    capture_log(fn ->
      server = server(name)
      kill(server)
      assert_receive {:opening, loader}
      send(loader, {:open, :raise})
      eventually(fn -> match?({:error, %Error{reason: :internal}}, call(name)) end)

      monitor = name |> server() |> Process.monitor()
      :ok = Application.stop(:image_zero_shot)
      assert_receive {:DOWN, ^monitor, :process, _server, _reason}
      {:ok, _} = Application.ensure_all_started(:image_zero_shot)
      assert_receive {:opening, loader}
      send(loader, {:open, :ok})
      eventually(fn -> match?({:ok, _}, call(name)) end)
    end)

    refute_received {:tree_ended, _}
  end

  test "a serving cannot be started without the application, which is told" do
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:image_zero_shot) end)
    capture_log(fn -> :ok = Application.stop(:image_zero_shot) end)

    assert {:error, %Error{reason: :serving_down, message: message}} =
             Serving.start_link(name: name(), repo: :embedded)

    assert message =~ "the application :image_zero_shot is not started"
  end
end
