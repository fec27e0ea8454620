defmodule Image.ZeroShot.ModelServerTest do
  # Stops the application, and traces processes.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot.{Error, ModelServer}

  @error %Error{reason: :io, message: "no such luck"}
  @callers 50

  # Loads nothing: it tells the test, and does what the test says.
  defmodule Loader do
    @behaviour ModelServer

    @impl true
    def open({test, _id} = key, _how) do
      send(test, {:opening, key, self()})

      receive do
        {:answer, answer} -> answer
      end
    end

    @impl true
    def close({test, model}), do: send(test, {:closed, model})
  end

  setup do
    key = {self(), make_ref()}
    on_exit(fn -> capture_log(fn -> ModelServer.stop(key) end) end)
    %{key: key, model: {self(), make_ref()}}
  end

  defp callers(key, count \\ @callers),
    do: for(_ <- 1..count, do: Task.async(fn -> ModelServer.fetch(key, Loader) end))

  # The process that loads, once so many callers wait in its mailbox.
  defp loading(key, count \\ @callers) do
    assert_receive {:opening, ^key, server}
    # Each call that arrives from now on is a reason to count again.
    :erlang.trace(server, true, [:receive])
    wait_for(server, count)
    :erlang.trace(server, false, [:receive])
    server
  end

  defp wait_for(server, count) do
    {:message_queue_len, waiting} = Process.info(server, :message_queue_len)

    if waiting < count do
      assert_receive {:trace, ^server, :receive, {:"$gen_call", _from, :model}}
      wait_for(server, count)
    end
  end

  defp load(key, model) do
    task = Task.async(fn -> ModelServer.fetch(key, Loader) end)
    assert_receive {:opening, ^key, server}
    send(server, {:answer, {:ok, model}})
    assert Task.await(task) == {:ok, model}
    server
  end

  defp await_end(server, act) do
    ref = Process.monitor(server)
    act.()
    assert_receive {:DOWN, ^ref, :process, ^server, reason}
    reason
  end

  test "however many call at once, one load serves all", %{key: key, model: model} do
    tasks = callers(key)
    server = loading(key)
    assert ModelServer.loaded(key) == :error

    send(server, {:answer, {:ok, model}})
    assert Task.await_many(tasks) == List.duplicate({:ok, model}, @callers)
    assert ModelServer.loaded(key) == {:ok, model}
    refute_received {:opening, _key, _server}
  end

  test "a loaded model is read without a message to anybody", %{key: key, model: model} do
    server = load(key, model)
    :sys.suspend(server)
    assert ModelServer.fetch(key, Loader) == {:ok, model}
    :sys.resume(server)
  end

  test "a load that fails fails for all who wait, and the next call tries again",
       %{key: key, model: model} do
    tasks = callers(key)
    server = loading(key)

    assert await_end(server, fn -> send(server, {:answer, {:error, @error}}) end) == :normal
    assert Task.await_many(tasks) == List.duplicate({:error, @error}, @callers)
    refute_received {:opening, _key, _server}
    assert ModelServer.loaded(key) == :error

    load(key, model)
    assert ModelServer.fetch(key, Loader) == {:ok, model}
  end

  test "a call that finds a process about to stop tries again", %{key: key, model: model} do
    test = self()

    # Has the name, and is gone when it is called.
    stopping =
      spawn(fn ->
        {:ok, _} = Registry.register(Image.ZeroShot.ModelRegistry, key, :loading)
        send(test, :registered)
        receive do: ({:"$gen_call", _from, :model} -> :ok)
      end)

    assert_receive :registered
    assert await_end(stopping, fn -> load(key, model) end) == :normal
    assert ModelServer.fetch(key, Loader) == {:ok, model}
  end

  test "a process that is killed while it loads is replaced by one", %{key: key, model: model} do
    tasks = callers(key)
    server = loading(key)
    assert await_end(server, fn -> Process.exit(server, :kill) end) == :killed

    next = loading(key)
    assert next != server
    send(next, {:answer, {:ok, model}})
    assert Task.await_many(tasks) == List.duplicate({:ok, model}, @callers)
    refute_received {:opening, _key, _server}
  end

  test "a process that is killed again and again is an error", %{key: key} do
    [task] = callers(key, 1)

    for _ <- 1..5 do
      server = loading(key, 1)
      await_end(server, fn -> Process.exit(server, :kill) end)
    end

    assert {:error, %Error{reason: :internal, message: message}} = Task.await(task)
    assert message == "the process that loads the model ended 5 times"
    refute_received {:opening, _key, _server}
  end

  test "a loader that crashes is an error too", %{key: key} do
    capture_log(fn ->
      [task] = callers(key, 1)

      for _ <- 1..5 do
        server = loading(key, 1)
        await_end(server, fn -> send(server, {:answer, :nonsense}) end)
      end

      assert {:error, %Error{reason: :internal}} = Task.await(task)
    end)
  end

  test "a process killed with a loaded model is replaced at the next call",
       %{key: key, model: model} do
    server = load(key, model)
    await_end(server, fn -> Process.exit(server, :kill) end)
    assert ModelServer.loaded(key) == :error

    other = {self(), make_ref()}
    assert load(key, other) != server
    assert ModelServer.fetch(key, Loader) == {:ok, other}
  end

  test "stopping closes the model before it returns", %{key: key, model: {_, id} = model} do
    load(key, model)
    assert ModelServer.stop(key) == :ok
    assert_received {:closed, ^id}
    assert ModelServer.loaded(key) == :error
    assert ModelServer.stop(key) == :ok
    refute_received {:closed, _id}
  end

  test "a caller that dies takes nothing with it", %{key: key, model: model} do
    caller = spawn(fn -> ModelServer.fetch(key, Loader) end)
    server = loading(key, 1)
    await_end(caller, fn -> Process.exit(caller, :kill) end)

    send(server, {:answer, {:ok, model}})
    assert ModelServer.fetch(key, Loader) == {:ok, model}
    refute_received {:opening, _key, _server}
  end

  test "keys do not wait for each other", %{key: key, model: model} do
    other = {self(), make_ref()}
    tasks = callers(key, 3)
    server = loading(key, 3)

    load(other, model)
    ModelServer.stop(other)

    send(server, {:answer, {:ok, model}})
    assert Task.await_many(tasks) == List.duplicate({:ok, model}, 3)
  end

  test "messages from strangers are ignored", %{key: key, model: model} do
    server = load(key, model)
    send(server, :nonsense)
    assert :sys.get_state(server).model == model
  end

  test "the application closes its models when it stops, and can start again",
       %{key: key, model: {_, id} = model} do
    load(key, model)
    capture_log(fn -> :ok = Application.stop(:image_zero_shot) end)
    assert_received {:closed, ^id}

    message = assert_raise(RuntimeError, fn -> ModelServer.fetch(key, Loader) end).message
    assert message =~ "the application :image_zero_shot is not started"

    assert {:ok, _} = Application.ensure_all_started(:image_zero_shot)
    load(key, model)
  end
end
