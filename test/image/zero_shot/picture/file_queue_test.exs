defmodule Image.ZeroShot.Picture.FileQueueTest do
  # Keeps every place of the VM's only queue.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Picture.FileQueue
  alias Image.ZeroShot.Test.Pictures

  @most max(:erlang.system_info(:dirty_io_schedulers) - 2, 1)

  defp state, do: :sys.get_state(FileQueue)
  defp waiting(count), do: eventually(fn -> :queue.len(state().waiting) == count end)
  defp assert_idle, do: eventually(fn -> state().running == %{} end)

  # Work that begins, tells the test, and ends when the test says so: a file that does not answer.
  defp block(timeout \\ :infinity) do
    test = self()

    work = fn ->
      send(test, {:begun, self()})
      receive do: (:go -> {:ok, :done})
    end

    Task.async(fn -> {FileQueue.run(work, timeout), Process.info(self(), :message_queue_len)} end)
  end

  defp fill(timeout \\ :infinity) do
    tasks = for _ <- 1..@most, do: block(timeout)
    readers = for _ <- tasks, do: assert_receive({:begun, _reader}) |> elem(1)
    on_exit(fn -> Enum.each(readers, &send(&1, :go)) end)
    {tasks, readers}
  end

  test "work is done in another process, and its result returned" do
    assert {:ok, reader} = FileQueue.run(fn -> {:ok, self()} end, 30_000)
    assert reader != self()

    assert FileQueue.run(fn -> {:error, %Error{reason: :io}} end, :infinity) ==
             {:error, %Error{reason: :io}}

    assert_idle()
    refute_received _any
  end

  test "work that ends too late is a timeout, and its result goes nowhere" do
    task = block(10)
    assert_receive {:begun, reader}
    assert {{:error, %Error{reason: :timeout, message: message}}, nothing} = await(task)
    assert nothing == {:message_queue_len, 0}
    assert message =~ "not read within the :timeout of 10 ms"
    assert Process.alive?(reader)
    assert await_end(reader, fn -> send(reader, :go) end) == :normal
    assert_idle()
  end

  test "work that crashes is an error" do
    assert {:error, %Error{reason: :internal, message: message}} =
             FileQueue.run(fn -> exit(:drill) end, 30_000)

    assert message =~ "drill"
  end

  test "a bounded number of files is read at a time, however many do not answer" do
    {tasks, readers} = fill(10)
    for {{:error, error}, _} <- await_all(tasks), do: assert(error.reason == :timeout)
    late = for _ <- 1..20, do: block(10)
    for {{:error, error}, _} <- await_all(late), do: assert(error.reason == :timeout)
    refute_received {:begun, _reader}
    assert map_size(state().running) == @most

    next = Task.async(fn -> FileQueue.run(fn -> {:ok, :next} end, :infinity) end)
    waiting(21)
    send(hd(readers), :go)
    # What nobody waits for any more is not begun.
    assert await(next) == {:ok, :next}
    refute_received {:begun, _reader}
  end

  test "work of callers who were killed is not begun" do
    {_tasks, [reader | _]} = fill()
    killed = for _ <- 1..5, do: block()
    waiting(5)
    for task <- killed, do: Task.shutdown(task, :brutal_kill)
    send(reader, :go)
    assert {:ok, :next} = FileQueue.run(fn -> {:ok, :next} end, :infinity)
    refute_received {:begun, _reader}
  end

  test "no more than a bounded number of callers waits" do
    {_tasks, _readers} = fill()
    gone = for _ <- 1..1_000, do: block(60_000)
    waiting(1_000)

    assert {:error, %Error{reason: :overloaded, message: message}} =
             FileQueue.run(fn -> {:ok, :one_more} end, :infinity)

    assert message =~ "1000 pictures wait for their files"
    for task <- gone, do: Task.shutdown(task, :brutal_kill)
    _one_more = block()
    waiting(1)
  end

  test "a picture whose file is not read in time is a timeout of its call" do
    {_tasks, _readers} = fill()
    {:path, path} = picture = Pictures.sample("dog.jpg")
    assert {:error, error} = Source.prepare(picture, Options.embed!(timeout: 10))
    assert error.reason == :timeout
    assert String.starts_with?(error.message, "#{inspect(path)}: the file was not read within")
  end
end
