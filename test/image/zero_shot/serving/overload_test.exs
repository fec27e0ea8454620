defmodule Image.ZeroShot.Serving.OverloadTest do
  # Counts on its mailbox, and on what the servings of this VM are.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Servings
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Serving.{Client, Gate}
  alias Image.ZeroShot.Test.Runner

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

      results = await_all(tasks)
      assert Enum.all?(results, &(match?({:ok, _}, &1) or refused?(&1)))
      assert %{admitted: 0, waiting: 0, running: 0} = counted(server).queue
      {length, Enum.count(results, &refused?/1)}
    end

    defp mailbox(pid), do: pid |> Process.info(:message_queue_len) |> elem(1)
    defp ended?(task), do: not Process.alive?(task.pid)

    test "1,000 callers at once get 1,000 answers, and the mailbox stays short" do
      {length, refused} = storm(Runner.ready(timeout: 60_000))
      # The serving's own message is in it too.
      assert length <= 512 + 1
      assert refused >= 1_000 - 512
    end

    test "is what keeps it short" do
      assert {length, 0} = storm(Runner.ready(timeout: 60_000, max_queue: :infinity))
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
      assert {:ok, _} = await(task)
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
      assert {:ok, {<<1.0::float-32-native>>, _text, []}} = await(small)
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
      gate = gate(opts)
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
      assert Gate.size(gate) == 1

      # 80 prompts is what may wait.
      assert {:error, %Error{reason: :overloaded} = error} = Client.checkout(opts, needs)

      assert error.message == "too many prompts wait (limit: 80); try again later"
      assert {:ok, _} = Runner.call(opts, [<<1>>])
      send(holder.pid, :go)
      assert holder |> await() |> Enum.all?(&match?({:ok, _}, &1))
      assert Gate.size(gate) == 0
    end

    defp prompts(count), do: for(n <- 1..count, do: "prompt #{n}")
  end
end
