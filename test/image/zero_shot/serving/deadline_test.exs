defmodule Image.ZeroShot.Serving.DeadlineTest do
  # Counts on its mailbox, and on what the servings of this VM are.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Servings
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.Deadline
  alias Image.ZeroShot.Serving.{Admission, Client, Gate}
  alias Image.ZeroShot.Test.Runner

  describe "a call that would not be served in time" do
    # The first run, which does not count, and one that has taken at least so long.
    defp learn(opts, server, milliseconds) do
      warm_up(opts, server)
      answered(opts, server, milliseconds)
    end

    defp warm_up(opts, server), do: answered(opts, server, 0)

    defp answered(opts, server, milliseconds) do
      task = call(opts, [<<0>>])
      assert_receive {:run, ^server, _tag, [<<0>>], []} = run
      Process.sleep(milliseconds)
      Runner.answer(run)
      assert {:ok, _} = await(task)
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

      assert Gate.size(gate(opts)) == 1

      Runner.answer(run)
      assert {:ok, _} = await(first)
    end

    test "is not refused by a serving that is idle" do
      opts = Runner.opts(open: :ok, timeout: 60_000)
      server = start(opts)
      # More than the call's time, which is enough for a busy machine.
      learn(opts, server, 1_200)
      task = call(%{opts | timeout: 1_000}, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run
      Runner.answer(run)
      refute match?({:error, %Error{reason: :overloaded}}, await(task))
    end

    test "is refused while it waits when the model turns out to be slow" do
      opts = Runner.opts(open: :ok, timeout: 60_000, info: [max_batch: 1])
      server = start(opts)
      warm_up(opts, server)
      first = call(opts, [<<1>>])
      assert_receive {:run, ^server, _tag, [<<1>>], []} = run
      # Nothing is known yet, and all are let in.
      patient = for i <- 2..9, do: call(opts, [<<i>>])
      wait_for(server, 9)
      hurried = for i <- 10..14, do: call(%{opts | timeout: 12_000}, [<<i>>])
      wait_for(server, 14)
      Process.sleep(1_500)
      Runner.answer(run)
      assert {:ok, _} = await(first)

      for result <- await_all(hurried),
          do: assert({:error, %Error{reason: :overloaded}} = result)

      for _ <- patient do
        assert_receive {:run, ^server, _tag, [<<i>>], []} = run
        assert i in 2..9
        Runner.answer(run)
      end

      assert patient |> await_all() |> Enum.all?(&match?({:ok, _}, &1))
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
      assert {:ok, _} = await(hold)
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
      assert {:ok, _} = await(task)

      eventually(fn -> counted(server).queue.dropped == 1 end)
      refute_received {:run, _, _, _, _}
      assert Process.info(self(), :message_queue_len) == {:message_queue_len, 0}
    end

    test "that is over during a run leaves no message either" do
      opts = Runner.opts(open: :ok)
      server = start(opts)
      # Enough for the run to begin.
      assert {:error, %Error{reason: :timeout}} = Runner.call(%{opts | timeout: 1_000}, [<<1>>])
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
      assert {:ok, _} = await(task)
    end
  end
end
