defmodule Image.ZeroShot.Serving.BatchesTest do
  # Counts on its mailbox, and on what the servings of this VM are.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Servings
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Test.Runner

  @error %Error{reason: :io, message: "no such luck"}

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
      assert {:ok, {<<1.0::float-32-native>>, <<1.0::float-32-native>>, []}} = await(first)

      # A prompt that several ask for is computed once.
      assert_receive {:run, ^server, _tag, pixels, ["b"]} = run
      assert Enum.sort(pixels) == [<<2>>, <<3>>, <<4>>]
      Runner.answer(run)

      for {task, i} <- Enum.zip(others, 2..4) do
        assert {:ok, {<<image::float-32-native>>, <<1.0::float-32-native>>, []}} = await(task)

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

      assert [hold | tasks] |> await_all() |> Enum.all?(&match?({:ok, _}, &1))
    end

    test "more pictures than :max_batch in one request go alone" do
      opts = Runner.opts(open: :ok, info: [max_batch: 2])
      server = start(opts)
      task = call(opts, [<<1>>, <<2>>, <<3>>])
      assert_receive {:run, ^server, _tag, [_, _, _], []} = run
      Runner.answer(run)
      assert {:ok, {<<_::96>>, <<>>, []}} = await(task)
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
      assert await(task) == {:ok, {images, texts, cut}}
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
      assert tasks |> await_all() |> Enum.all?(&match?({:ok, _}, &1))
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
               await_all([hold | tasks])

      assert counted(server).batches.failed == 2
    end

    test "that cannot be begun are an error of each caller" do
      opts = Runner.opts(open: :ok, refuse: @error)
      start(opts)
      tasks = for i <- 1..3, do: call(opts, [<<i>>])
      assert await_all(tasks) == List.duplicate({:error, @error}, 3)
    end
  end
end
