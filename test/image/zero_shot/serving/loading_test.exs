defmodule Image.ZeroShot.Serving.LoadingTest do
  # Counts on its mailbox, and on what the servings of this VM are.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.Servings
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Serving.{Client, Directory, Handle, Server}
  alias Image.ZeroShot.Test.Runner

  @error %Error{reason: :io, message: "no such luck"}

  describe "loading" do
    @callers 50

    test "however many call at once, one load serves all" do
      opts = Runner.opts(run: :answer)
      on_exit(fn -> Client.unload(opts) end)
      tasks = for i <- 1..@callers, do: call(opts, [<<i>>])
      assert_receive {:opening, loader}
      wait_for_callers(opts, @callers)
      send(loader, {:open, :ok})

      for {task, i} <- Enum.zip(tasks, 1..@callers) do
        assert {:ok, {<<image::float-32-native>>, <<>>, []}} = await(task)
        assert image == i
      end

      refute_received {:opening, _loader}
    end

    test "that fails fails for all who wait, and the next call tries again" do
      opts = Runner.opts(run: :answer)
      on_exit(fn -> Client.unload(opts) end)
      tasks = for i <- 1..@callers, do: call(opts, [<<i>>])
      assert_receive {:opening, loader}
      wait_for_callers(opts, @callers)
      server = server(opts)
      assert await_end(server, fn -> send(loader, {:open, {:error, @error}}) end) == :normal
      assert await_all(tasks) == List.duplicate({:error, @error}, @callers)
      refute_received {:opening, _loader}

      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      send(loader, {:open, :ok})
      assert {:ok, _} = await(task)
    end

    test "that crashes is an error, and not tried again and again" do
      opts = Runner.opts()
      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      send(loader, {:open, :raise})
      assert {:error, %Error{reason: :internal, message: message}} = await(task)
      assert message =~ "no such luck"
      refute_received {:opening, _loader}
    end

    test "that crashes before anybody waits for it is not tried again either" do
      opts = Runner.opts()
      server = Server.start_child({:model, opts.id}, opts)
      assert_receive {:opening, loader}
      log = capture_log(fn -> await_end(loader, fn -> send(loader, {:open, :raise}) end) end)
      assert log =~ "no such luck"

      # Its link and its monitor both tell of the end, in an order that nobody promises.
      send(server, {:EXIT, loader, :killed})
      assert {:error, %Error{reason: :internal}} = Handle.await(server)
      refute_receive {:opening, _loader}
    end

    test "goes on in another process when the first is killed, and the callers wait for it" do
      opts = Runner.opts(run: :answer)
      on_exit(fn -> Client.unload(opts) end)
      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      wait_for_callers(opts, 1)
      server = server(opts)

      assert await_end(loader, fn -> Process.exit(server, :kill) end) == :killed
      assert_receive {:opening, loader}
      send(loader, {:open, :ok})
      assert {:ok, _} = await(task)
    end

    test "goes on once when a caller is faster than the supervisor of the killed one" do
      opts = Runner.opts(run: :answer)
      on_exit(fn -> Client.unload(opts) end)
      key = {:model, opts.id}
      killed = Server.start_child(key, opts)
      assert_receive {:opening, _loader}
      supervisor = Process.whereis(Directory.supervisor())

      # So that the supervisor reads of the call before it reads of the end.
      :ok = :sys.suspend(supervisor)
      caller = Task.async(fn -> Server.start_child(key, opts) end)
      one = {:message_queue_len, 1}
      eventually(fn -> Process.info(supervisor, :message_queue_len) == one end)
      kill(killed)
      :ok = :sys.resume(supervisor)

      server = await(caller)
      assert server != killed
      assert Server.start_child(key, opts) == server
      assert_receive {:opening, _loader}

      # A child that is started again and again is counted, and is not active.
      counts = DynamicSupervisor.count_children(supervisor)
      assert counts.specs == counts.active
    end

    test "can be stopped" do
      opts = Runner.opts()
      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      wait_for_callers(opts, 1)
      assert await_end(loader, fn -> Client.unload(opts) end) == :killed
      assert {:error, %Error{reason: :model_unloaded}} = await(task)
      refute_received {:closed, _id}
    end
  end
end
