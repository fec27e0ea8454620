defmodule Image.ZeroShot.Serving.TerminationTest do
  # Counts on its mailbox, and on what the servings of this VM are.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.Servings
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Serving.{Client, Directory}
  alias Image.ZeroShot.Test.Runner

  describe "the end of a serving" do
    test "by a kill is a typed error for its callers, and it comes back" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      tasks = for i <- 1..8, do: call(opts, [<<i>>])
      wait_for(server, 8)
      kill(server)

      for result <- await_all(tasks),
          do: assert({:error, %Error{reason: :serving_down}} = result)

      eventually(fn -> match?({_server, %{info: %{}}}, Directory.lookup({:model, opts.id})) end)
      next = server(opts)
      assert next != server
      flush_runs()
      task = call(opts, [<<1>>])
      assert_receive {:run, ^next, _tag, [<<1>>], []} = run
      Runner.answer(run)
      assert {:ok, _} = await(task)
    end

    test "reaches callers whose pixels are not there yet" do
      opts = Runner.ready()
      server = start(opts)
      test = self()

      prepare = fn %{decode_until: :infinity, monitor: monitor} ->
        send(test, :preparing)
        receive do: ({:DOWN, ^monitor, :process, ^server, :killed} -> {:ok, [<<1>>]})
      end

      task = Task.async(fn -> Runner.call(%{opts | timeout: :infinity}, prepare) end)
      assert_receive :preparing
      kill(server)
      assert {:error, %Error{reason: :serving_down}} = await(task)
    end

    test "however often it happens, ends no other" do
      other = start(Runner.ready())
      opts = Runner.ready()
      start(opts)

      for _ <- 1..100 do
        eventually(fn -> match?({_, %{info: %{}}}, Directory.lookup({:model, opts.id})) end)
        server = server(opts)
        kill(server)
      end

      assert {:ok, _} = Runner.call(opts, [<<1>>])
      assert Process.alive?(other)
    end

    test "by an unload is told to all who wait, and closes the model before it returns" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      tasks = for i <- 1..8, do: call(opts, [<<i>>])
      wait_for(server, 8)
      assert Client.unload(opts) == :ok
      id = opts.id
      assert_received {:closed, ^id}
      refute Process.alive?(server)
      assert Directory.lookup({:model, id}) == nil

      for result <- await_all(tasks),
          do: assert({:error, %Error{reason: :model_unloaded}} = result)

      assert Client.unload(opts) == :ok
      refute_received {:closed, _id}
    end

    test "with the application is a typed error with a clear message" do
      opts = Runner.ready()
      start(opts)
      on_exit(fn -> {:ok, _} = Application.ensure_all_started(:image_zero_shot) end)
      capture_log(fn -> :ok = Application.stop(:image_zero_shot) end)

      for opts <- [opts, %{opts | serving: __MODULE__.None}] do
        assert {:error, %Error{reason: :serving_down} = error} = Runner.call(opts, [<<1>>])
        assert error.message =~ "the application :image_zero_shot is not started"
        assert {:error, %Error{}} = Client.load(opts)
        assert {:error, %Error{}} = Client.info(opts)
        assert Client.unload(opts) == :ok
      end

      assert {:ok, _} = Application.ensure_all_started(:image_zero_shot)
      assert {:ok, _} = Runner.call(opts, [<<1>>])
    end
  end

  describe "a caller that is killed" do
    test "while it waits costs nothing, and gives its place back" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      task = call(opts, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run
      killed = for i <- 2..5, do: spawn(fn -> Runner.call(opts, [<<i>>]) end)
      wait_for(server, 5)
      for pid <- killed, do: kill(pid)

      Runner.answer(run)
      assert {:ok, _} = await(task)
      eventually(fn -> counted(server).queue.dropped == 4 end)
      refute_received {:run, _, _, _, _}
      eventually(fn -> counted(server).queue.admitted == 0 end)
    end

    test "before it asks for anything gives its place back too" do
      opts = Runner.ready(max_queue: 1)
      start(opts)
      test = self()

      prepare = fn _lease ->
        send(test, :preparing)
        Process.sleep(:infinity)
      end

      caller = spawn(fn -> Runner.call(opts, prepare) end)
      assert_receive :preparing
      assert {:error, %Error{reason: :overloaded}} = Runner.call(opts, [<<1>>])
      kill(caller)
      eventually(fn -> match?({:ok, _}, Runner.call(opts, [<<1>>])) end)
    end
  end

  test "messages from strangers are ignored" do
    opts = Runner.ready()
    server = start(opts)
    send(server, :nonsense)
    send(server, {make_ref(), {:ok, {<<>>, <<>>, []}}})
    assert {:ok, _} = Runner.call(opts, [<<1>>])
    assert Process.alive?(server)
  end

  defp flush_runs do
    receive do
      {:run, _, _, _, _} -> flush_runs()
    after
      0 -> :ok
    end
  end
end
