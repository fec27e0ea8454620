defmodule Image.ZeroShot.ServingTest do
  # Stops the application, and counts on its mailbox.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.Deadline
  alias Image.ZeroShot.Serving.{Admission, Client, Directory}
  alias Image.ZeroShot.Test.Runner

  @error %Error{reason: :io, message: "no such luck"}

  defp start(opts) do
    on_exit(fn -> Client.unload(opts) end)
    {:ok, _info} = Client.load(opts)
    {server, _entry} = Directory.lookup({:model, opts.id})
    server
  end

  defp call(opts, pixels, prompts \\ []),
    do: Task.async(fn -> Runner.call(opts, pixels, prompts) end)

  # So many requests wait or run, once this returns.
  defp wait_for(server, count) do
    {:ok, info} = Serving.describe(server)
    waiting = info.queue.waiting + (:sys.get_state(server).running |> running())
    if waiting < count, do: wait_for(server, count)
  end

  defp running(running),
    do: running |> Map.values() |> Enum.map(&length(&1.requests)) |> Enum.sum()

  defp counted(server), do: elem(Serving.describe(server), 1)

  defp await_end(process, act) do
    ref = Process.monitor(process)
    act.()
    assert_receive {:DOWN, ^ref, :process, ^process, reason}
    reason
  end

  # Bounded, for what happens a moment later and tells nobody.
  defp eventually(check, attempts \\ 500) do
    cond do
      check.() ->
        :ok

      attempts == 0 ->
        flunk("did not happen")

      true ->
        Process.sleep(10)
        eventually(check, attempts - 1)
    end
  end

  describe "batches" do
    test "an idle serving runs a request at once, and what arrives meanwhile goes together" do
      opts = Runner.opts(open: :ok)
      server = start(opts)

      first = call(opts, [<<1>>], ["a"])
      assert_receive {:run, ^server, _tag, [<<1>>], ["a"]} = run

      others = for i <- 2..4, do: call(opts, [<<i>>], ["b"])
      wait_for(server, 4)
      refute_received {:run, _, _, _, _}

      Runner.answer(run)
      assert {:ok, {<<1.0::float-32-native>>, <<1.0::float-32-native>>, []}} = Task.await(first)

      # A prompt that several ask for is computed once.
      assert_receive {:run, ^server, _tag, pixels, ["b"]} = run
      assert Enum.sort(pixels) == [<<2>>, <<3>>, <<4>>]
      Runner.answer(run)

      for {task, i} <- Enum.zip(others, 2..4) do
        assert {:ok, {<<image::float-32-native>>, <<1.0::float-32-native>>, []}} =
                 Task.await(task)

        assert image == i
      end

      assert %{count: 2, pictures: 4, prompts: 2, largest: 3, failed: 0} = counted(server).batches
      assert %{admitted: 0, waiting: 0, running: 0, dropped: 0} = counted(server).queue
    end

    test "hold at most :max_batch pictures, oldest first, whatever is asked together" do
      opts = Runner.opts(open: :ok, info: [max_batch: 4])
      server = start(opts)
      hold = call(opts, [<<0>>])
      assert_receive {:run, ^server, _tag, [<<0>>], []} = run

      tasks =
        for i <- 1..5 do
          task = call(opts, [<<i>>, <<i>>])
          wait_for(server, i + 1)
          task
        end

      Runner.answer(run)

      for expected <- [[1, 1, 2, 2], [3, 3, 4, 4], [5, 5]] do
        assert_receive {:run, ^server, _tag, pixels, []} = run
        assert for(<<byte>> <- pixels, do: byte) == expected
        Runner.answer(run)
      end

      assert [hold | tasks] |> Task.await_many() |> Enum.all?(&match?({:ok, _}, &1))
    end

    test "more pictures than :max_batch in one request go alone" do
      opts = Runner.opts(open: :ok, info: [max_batch: 2])
      server = start(opts)
      task = call(opts, [<<1>>, <<2>>, <<3>>])
      assert_receive {:run, ^server, _tag, [_, _, _], []} = run
      Runner.answer(run)
      assert {:ok, {<<_::96>>, <<>>, []}} = Task.await(task)
    end

    test "prompts count as a 16th of a picture, and a long list goes in parts" do
      opts = Runner.opts(open: :ok, info: [max_batch: 1])
      server = start(opts)
      prompts = for i <- 1..40, do: String.duplicate("x", i) <> if(i == 20, do: " long", else: "")
      task = call(opts, [<<7>>], prompts)

      for {pixels, count} <- [{[<<7>>], 16}, {[], 16}, {[], 8}] do
        assert_receive {:run, ^server, _tag, ^pixels, part} = run
        assert length(part) == count
        Runner.answer(run)
      end

      {images, texts, cut} = Runner.embeddings([<<7>>], prompts)
      assert Task.await(task) == {:ok, {images, texts, cut}}
      assert cut == [19]
    end

    test "run as many batches at a time as :concurrency says" do
      opts = Runner.opts(open: :ok, info: [concurrency: 2])
      server = start(opts)
      tasks = for i <- 1..4, do: call(opts, [<<i>>])
      assert_receive {:run, ^server, tag1, [_], []} = first
      assert_receive {:run, ^server, tag2, [_], []} = second
      assert tag1 != tag2
      wait_for(server, 4)
      refute_received {:run, _, _, _, _}

      Runner.answer(second)
      assert_receive {:run, ^server, _tag, [_, _], []} = third
      Enum.each([first, third], &Runner.answer/1)
      assert tasks |> Task.await_many() |> Enum.all?(&match?({:ok, _}, &1))
    end

    test "that fail are run one by one, so that the one at fault fails alone" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      hold = call(opts, [<<0>>])
      assert_receive {:run, ^server, _tag, [<<0>>], []} = run
      tasks = for i <- 1..3, do: call(opts, [<<i>>])
      wait_for(server, 4)
      Runner.answer(run)
      assert_receive {:run, ^server, tag, [_, _, _], []}
      send(server, {tag, {:error, {:torch, "one of them"}}})

      for _ <- 1..3 do
        assert_receive {:run, ^server, tag, [picture], []} = run

        if picture == <<2>>,
          do: send(server, {tag, {:error, {:torch, "this one"}}}),
          else: Runner.answer(run)
      end

      assert [{:ok, _}, {:ok, _}, {:error, %Error{reason: :torch, message: "this one"}}, {:ok, _}] =
               Task.await_many([hold | tasks])

      assert counted(server).batches.failed == 2
    end

    test "that cannot be begun are an error of each caller" do
      opts = Runner.opts(open: :ok, refuse: @error)
      start(opts)
      tasks = for i <- 1..3, do: call(opts, [<<i>>])
      assert Task.await_many(tasks) == List.duplicate({:error, @error}, 3)
    end
  end

  describe "loading" do
    @callers 50

    # All callers are inside, once this returns.
    defp admitted(opts, count) do
      eventually(fn ->
        with {_server, entry} <- Directory.lookup({:model, opts.id}),
             do: Serving.Gate.size(entry.gate) == count,
             else: (nil -> false)
      end)
    end

    test "however many call at once, one load serves all" do
      opts = Runner.opts(run: :answer)
      on_exit(fn -> Client.unload(opts) end)
      tasks = for i <- 1..@callers, do: call(opts, [<<i>>])
      assert_receive {:opening, loader}
      admitted(opts, @callers)
      send(loader, {:open, :ok})

      for {task, i} <- Enum.zip(tasks, 1..@callers) do
        assert {:ok, {<<image::float-32-native>>, <<>>, []}} = Task.await(task)
        assert image == i
      end

      refute_received {:opening, _loader}
    end

    test "that fails fails for all who wait, and the next call tries again" do
      opts = Runner.opts(run: :answer)
      on_exit(fn -> Client.unload(opts) end)
      tasks = for i <- 1..@callers, do: call(opts, [<<i>>])
      assert_receive {:opening, loader}
      admitted(opts, @callers)
      {server, _entry} = Directory.lookup({:model, opts.id})
      assert await_end(server, fn -> send(loader, {:open, {:error, @error}}) end) == :normal
      assert Task.await_many(tasks) == List.duplicate({:error, @error}, @callers)
      refute_received {:opening, _loader}

      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      send(loader, {:open, :ok})
      assert {:ok, _} = Task.await(task)
    end

    test "that crashes is an error, and not tried again and again" do
      opts = Runner.opts()
      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      send(loader, {:open, :raise})
      assert {:error, %Error{reason: :internal, message: message}} = Task.await(task)
      assert message =~ "no such luck"
      refute_received {:opening, _loader}
    end

    test "that crashes before anybody waits for it is not tried again either" do
      opts = Runner.opts()
      server = Directory.start({:model, opts.id}, opts)
      assert_receive {:opening, loader}
      log = capture_log(fn -> await_end(loader, fn -> send(loader, {:open, :raise}) end) end)
      assert log =~ "no such luck"

      # Its link and its monitor both tell of the end, in an order that nobody promises.
      send(server, {:EXIT, loader, :killed})
      assert {:error, %Error{reason: :internal}} = Serving.await(server)
      refute_receive {:opening, _loader}
    end

    test "goes on in another process when the first is killed, and the callers wait for it" do
      opts = Runner.opts(run: :answer)
      on_exit(fn -> Client.unload(opts) end)
      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      admitted(opts, 1)
      {server, _entry} = Directory.lookup({:model, opts.id})

      assert await_end(loader, fn -> Process.exit(server, :kill) end) == :killed
      assert_receive {:opening, loader}
      send(loader, {:open, :ok})
      assert {:ok, _} = Task.await(task)
    end

    test "can be stopped" do
      opts = Runner.opts()
      task = call(opts, [<<1>>])
      assert_receive {:opening, loader}
      admitted(opts, 1)
      assert await_end(loader, fn -> Client.unload(opts) end) == :killed
      assert {:error, %Error{reason: :model_unloaded}} = Task.await(task)
      refute_received {:closed, _id}
    end
  end

  describe "the end of a serving" do
    test "by a kill is a typed error for its callers, and it comes back" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      tasks = for i <- 1..8, do: call(opts, [<<i>>])
      wait_for(server, 8)
      await_end(server, fn -> Process.exit(server, :kill) end)

      for result <- Task.await_many(tasks, 1_000),
          do: assert({:error, %Error{reason: :serving_down}} = result)

      eventually(fn -> match?({_server, %{info: %{}}}, Directory.lookup({:model, opts.id})) end)
      {next, _entry} = Directory.lookup({:model, opts.id})
      assert next != server
      flush_runs()
      task = call(opts, [<<1>>])
      assert_receive {:run, ^next, _tag, [<<1>>], []} = run
      Runner.answer(run)
      assert {:ok, _} = Task.await(task)
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
      await_end(server, fn -> Process.exit(server, :kill) end)
      assert {:error, %Error{reason: :serving_down}} = Task.await(task)
    end

    test "however often it happens, ends no other" do
      other = start(Runner.ready())
      opts = Runner.ready()
      start(opts)

      for _ <- 1..100 do
        eventually(fn -> match?({_, %{info: %{}}}, Directory.lookup({:model, opts.id})) end)
        {server, _entry} = Directory.lookup({:model, opts.id})
        await_end(server, fn -> Process.exit(server, :kill) end)
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

      for result <- Task.await_many(tasks),
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

  describe "the bound" do
    defp refused?(result), do: match?({:error, %Error{reason: :overloaded}}, result)

    # 1,000 callers of a serving that reads nothing until all have called. Returns the length of its
    # mailbox then, and how many were refused.
    defp storm(opts) do
      server = start(opts)
      :sys.suspend(server)
      tasks = for _ <- 1..1_000, do: call(opts, [<<1>>])
      eventually(fn -> mailbox(server) + Enum.count(tasks, &ended?/1) >= 1_000 end)
      length = mailbox(server)
      :sys.resume(server)

      results = Task.await_many(tasks, 10_000)
      assert Enum.all?(results, &(match?({:ok, _}, &1) or refused?(&1)))
      assert %{admitted: 0, waiting: 0, running: 0} = counted(server).queue
      {length, Enum.count(results, &refused?/1)}
    end

    defp mailbox(pid), do: pid |> Process.info(:message_queue_len) |> elem(1)
    defp ended?(task), do: not Process.alive?(task.pid)

    test "1,000 callers at once get 1,000 answers, and the mailbox stays short" do
      {length, refused} = storm(Runner.ready(timeout: 10_000))
      # The serving's own message is in it too.
      assert length <= 512 + 1
      assert refused >= 1_000 - 512
    end

    test "is what keeps it short" do
      assert {length, 0} = storm(Runner.ready(timeout: 10_000, max_queue: :infinity))
      assert length >= 1_000
    end

    test "refuses before anything is prepared, with the limit in the message" do
      opts = Runner.opts(open: :ok, max_queue: 1)
      server = start(opts)
      task = call(opts, [<<1>>])
      assert_receive {:run, ^server, _tag, _pixels, _prompts} = run

      never = fn _lease -> flunk("prepared a picture for nothing") end
      assert {:error, error} = Runner.call(opts, never)
      assert error.reason == :overloaded
      assert error.message == "the serving is full (limit: 1 caller); try again later"

      Runner.answer(run)
      assert {:ok, _} = Task.await(task)
    end
  end

  describe "long lists of prompts" do
    # What is asked for besides the long lists is answered within so many batches.
    @few 3

    test "of several callers let a small call pass after a batch or two" do
      opts = Runner.opts(open: :ok, timeout: :infinity)
      server = start(opts)

      lists =
        for caller <- 1..4 do
          prompts = for n <- 1..10_000, do: "label #{n} of #{caller}"
          Task.async(fn -> Runner.call(opts, [], prompts) end)
        end

      # All four are on their way, and go on while the small call waits.
      assert_receive {:run, ^server, _tag, [], first} = run
      wait_for(server, 4)
      Runner.answer(run)
      assert length(first) == 64

      small = call(opts, [<<1>>], ["a"])
      eventually(fn -> :sys.get_state(server).queue.work.short > 0 end)
      assert batches_until(server, ["a"], 0) <= @few
      assert {:ok, {<<1.0::float-32-native>>, _text, []}} = Task.await(small)
      for list <- lists, do: Task.shutdown(list, :brutal_kill)
    end

    defp batches_until(server, prompts, count) do
      assert_receive {:run, ^server, _tag, _pixels, asked} = run
      Runner.answer(run)
      if asked == prompts, do: count + 1, else: batches_until(server, prompts, count + 1)
    end

    test "keep their place from part to part, and are bounded" do
      opts = Runner.ready(max_queue: 5, max_cached_prompts: 0)
      start(opts)
      {_server, %{gate: gate}} = Directory.lookup({:model, opts.id})
      needs = %{pictures: 0, decoded_here: 0, prompts: prompts(60), parts: 1}
      test = self()

      holder =
        Task.async(fn ->
          {:ok, lease} = Client.checkout(opts, needs)
          send(test, :inside)
          receive do: (:go -> :ok)
          results = for n <- 1..5, do: Client.run(lease, [], ["part #{n}"])
          :ok = Client.checkin(lease)
          results
        end)

      assert_receive :inside
      assert Serving.Gate.size(gate) == 1

      # 80 prompts is what may wait.
      assert {:error, %Error{reason: :overloaded} = error} = Client.checkout(opts, needs)

      assert error.message == "too many prompts wait (limit: 80); try again later"
      assert {:ok, _} = Runner.call(opts, [<<1>>])
      send(holder.pid, :go)
      assert holder |> Task.await() |> Enum.all?(&match?({:ok, _}, &1))
      assert Serving.Gate.size(gate) == 0
    end

    defp prompts(count), do: for(n <- 1..count, do: "prompt #{n}")
  end

  describe "a call that would not be served in time" do
    # The first run, which does not count, and one that has taken at least so long.
    defp learn(opts, server, milliseconds) do
      answered(opts, server, 0)
      answered(opts, server, milliseconds)
    end

    defp answered(opts, server, milliseconds) do
      task = call(opts, [<<0>>])
      assert_receive {:run, ^server, _tag, [<<0>>], []} = run
      Process.sleep(milliseconds)
      Runner.answer(run)
      assert {:ok, _} = Task.await(task)
    end

    test "is refused before anything is prepared, with the estimate in the message" do
      opts = Runner.opts(open: :ok, timeout: 60_000)
      server = start(opts)
      learn(opts, server, 100)
      first = call(opts, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run

      # It would take 200 ms or more.
      never = fn _lease -> flunk("prepared a picture for nothing") end
      assert {:error, error} = Runner.call(%{opts | timeout: 150}, never)
      assert error.reason == :overloaded

      assert error.message =~
               ~r/^the call would take about \d+ ms, too long for its :timeout of 150 ms/

      assert Serving.Gate.size(elem(Directory.lookup({:model, opts.id}), 1).gate) == 1

      Runner.answer(run)
      assert {:ok, _} = Task.await(first)
    end

    test "is not refused by a serving that is idle" do
      opts = Runner.opts(open: :ok, timeout: 60_000)
      server = start(opts)
      learn(opts, server, 100)
      task = call(%{opts | timeout: 50}, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run
      Runner.answer(run)
      refute match?({:error, %Error{reason: :overloaded}}, Task.await(task))
    end

    test "is refused while it waits when the model turns out to be slow" do
      opts = Runner.opts(open: :ok, timeout: 60_000, info: [max_batch: 1])
      server = start(opts)
      answered(opts, server, 0)
      first = call(opts, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run
      # Nothing is known yet, and all are let in.
      patient = for i <- 2..3, do: call(opts, [<<i>>])
      hurried = for i <- 4..8, do: call(%{opts | timeout: 5_000}, [<<i>>])
      wait_for(server, 8)
      Process.sleep(1_500)
      Runner.answer(run)
      assert {:ok, _} = Task.await(first)

      for result <- Task.await_many(hurried),
          do: assert({:error, %Error{reason: :overloaded}} = result)

      for _ <- patient do
        assert_receive {:run, ^server, _tag, [<<i>>], []} = run
        assert i in 2..3
        Runner.answer(run)
      end

      assert patient |> Task.await_many() |> Enum.all?(&match?({:ok, _}, &1))
      assert %{admitted: 0, waiting: 0} = counted(server).queue
    end

    test "is refused when its pixels come too late for the model" do
      opts = Runner.opts(open: :ok, timeout: 60_000)
      server = start(opts)
      learn(opts, server, 100)
      hold = call(opts, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run

      # Takes as long as it may.
      prepare = fn lease ->
        Process.sleep(Deadline.remaining(lease.decode_until))
        Admission.judge(Error.error(:timeout, "decoded too late"), lease)
      end

      assert {:error, %Error{reason: :overloaded}} =
               Runner.call(%{opts | timeout: 2_000}, prepare)

      Runner.answer(run)
      assert {:ok, _} = Task.await(hold)
      # With nobody in its way it has all of its time.
      assert {:error, %Error{reason: :timeout}} = Runner.call(%{opts | timeout: 200}, prepare)
    end
  end

  describe "time" do
    test "that is over is an error, leaves no message, and the work is not done" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      task = call(opts, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run

      assert {:error, %Error{reason: :timeout}} = Runner.call(%{opts | timeout: 20}, [<<2>>])
      Runner.answer(run)
      assert {:ok, _} = Task.await(task)

      eventually(fn -> counted(server).queue.dropped == 1 end)
      refute_received {:run, _, _, _, _}
      assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
    end

    test "that is over during a run leaves no message either" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      assert {:error, %Error{reason: :timeout}} = Runner.call(%{opts | timeout: 20}, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run
      Runner.answer(run)
      assert %{queue: %{running: 0, admitted: 0}} = counted(server)
      assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
    end

    test "does not run while the model is being loaded" do
      opts = Runner.opts(run: :answer, timeout: 0)
      on_exit(fn -> Client.unload(opts) end)
      task = call(%{opts | timeout: 1_000}, [<<1>>])
      assert_receive {:opening, loader}
      refute Task.yield(task, 1_100)
      send(loader, {:open, :ok})
      assert {:ok, _} = Task.await(task)
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
      for pid <- killed, do: await_end(pid, fn -> Process.exit(pid, :kill) end)

      Runner.answer(run)
      assert {:ok, _} = Task.await(task)
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
      await_end(caller, fn -> Process.exit(caller, :kill) end)
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
