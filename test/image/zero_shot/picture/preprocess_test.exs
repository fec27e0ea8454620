defmodule Image.ZeroShot.PreprocessTest do
  # Looks at what the threads of the whole VM are doing.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Picture.{Limits, Preprocess}
  alias Image.ZeroShot.Test.Pictures

  @preprocessing %{resize: {:shortest_edge, 224}, crop: {224, 224}, filter: :bicubic}
  @limits [max_bytes: 100_000_000, max_decode_bytes: 1_000_000_000]
          |> Options.embed!()
          |> Options.picture()

  defp run(source, deadline \\ :infinity, monitor \\ make_ref()),
    do: Preprocess.run(source, @preprocessing, @limits, deadline, monitor)

  defp submit(tag, source),
    do: Native.preprocess(tag, source, @preprocessing, @limits, {1, nil}, nil)

  defp now, do: System.monotonic_time(:millisecond)
  defp encoded(name), do: {:encoded, Pictures.sample_bytes(name)}

  # Takes tens of milliseconds.
  defp slow, do: {:raw, :binary.copy(<<1, 2, 3>>, 2_000 * 2_000), 2_000, 2_000, 3}

  defp assert_nothing_left, do: refute_receive(_any, 300)

  test "gives the pixels of a picture" do
    assert {:ok, pixels} = run(encoded("dog.jpg"))
    assert byte_size(pixels) == 3 * 224 * 224
    assert run(encoded("dog.jpg")) == {:ok, pixels}
    assert_nothing_left()
  end

  test "a picture over a limit is refused in the same words before and after it is handed in" do
    native = fn source, limits ->
      Preprocess.run(source, @preprocessing, Map.merge(@limits, limits), :infinity)
    end

    pixels = {:raw, :binary.copy("x", 2 * 5 * 3), 2, 5, 3}
    assert native.(pixels, %{max_side: 4}) == Limits.check_size(2, 5, %{@limits | max_side: 4})

    assert native.(pixels, %{max_pixels: 9}) ==
             Limits.check_size(2, 5, %{@limits | max_pixels: 9})

    {:encoded, bytes} = encoded("dog.jpg")
    refused = Limits.check_bytes(byte_size(bytes), 8)
    assert {:error, %Error{reason: :image_too_large}} = refused
    assert native.({:encoded, bytes}, %{max_bytes: 8}) == refused
  end

  test "takes bytes of every kind there is in the VM" do
    bytes = Pictures.sample_bytes("dog.jpg")
    {:ok, pixels} = run({:encoded, bytes})

    part = binary_part("before" <> bytes <> "after", 6, byte_size(bytes))
    assert run({:encoded, part}) == {:ok, pixels}

    <<0::1, unaligned::binary>> = <<0::1, bytes::binary>>
    assert run({:encoded, unaligned}) == {:ok, pixels}

    # On the heap of the caller, with 64 bytes or fewer.
    tiny = :binary.copy(<<200, 100, 50>>, 4)
    assert {:ok, <<200, 100, 50>> = _plane_starts} = tiny_pixels(tiny)
  end

  defp tiny_pixels(tiny) do
    with {:ok, pixels} <- run({:raw, tiny, 2, 2, 3}) do
      plane = 224 * 224
      {:ok, for(at <- 0..2, into: "", do: binary_part(pixels, at * plane, 1))}
    end
  end

  test "bytes that grow afterwards do not change what is prepared" do
    bytes = Pictures.sample_bytes("dog.jpg")
    {:ok, pixels} = run({:encoded, bytes})

    # The VM appends in place where it can.
    growing = bytes <> <<>>
    tag = make_ref()
    {:ok, _job} = submit(tag, {:encoded, growing})
    grown = growing <> :binary.copy(<<255>>, 1_000_000)

    assert_receive {^tag, {:ok, ^pixels}}
    assert byte_size(grown) == byte_size(bytes) + 1_000_000
  end

  test "a call takes no time, however large the picture" do
    bytes = :rand.bytes(20_000_000)
    part = binary_part(bytes, 1, byte_size(bytes) - 1)

    times =
      for source <- List.duplicate({:encoded, bytes}, 20) ++ List.duplicate({:encoded, part}, 20) do
        tag = make_ref()
        {time, {:ok, _job}} = :timer.tc(fn -> submit(tag, source) end)
        assert_receive {^tag, {:error, {:invalid_image, _}}}
        time
      end

    # Medians, because anything may come between.
    copies = for _ <- 1..40, do: elem(:timer.tc(fn -> :binary.copy(part) end), 0)
    assert median(times) < median(copies) / 2
  end

  defp median(times), do: times |> Enum.sort() |> Enum.at(div(length(times), 2))

  test "many callers each get their own" do
    1..200
    |> Enum.map(fn n ->
      Task.async(fn ->
        grey = rem(n, 251)
        source = {:raw, :binary.copy(<<grey>>, 3 * 40 * 40), 40, 40, 3}
        expected = :binary.copy(<<grey>>, 3 * 224 * 224)
        assert run(source) == {:ok, expected}
        assert {:message_queue_len, 0} = Process.info(self(), :message_queue_len)
      end)
    end)
    |> Task.await_many(60_000)
  end

  test "a failure is an error with its reason" do
    assert {:error, %Error{reason: :invalid_image}} = run({:encoded, "no picture"})
    assert_nothing_left()
  end

  test "a panic on a worker is an error, and the next picture is prepared" do
    for _ <- 1..(2 * System.schedulers_online()) do
      assert {:error, %Error{reason: :internal, message: message}} = run(:drill)
      assert message =~ "drill"
    end

    assert {:ok, _pixels} = run(encoded("dog.jpg"))
  end

  test "a deadline that passes is an error, and nothing comes afterwards" do
    tasks = spin(System.schedulers_online(), fn -> run(:spin) end)

    # Who would be too late may hear of it before.
    assert {:error, %Error{reason: reason}} = run(encoded("dog.jpg"), now() + 5)
    assert reason in [:timeout, :overloaded]
    for task <- tasks, do: Task.shutdown(task, :brutal_kill)
    assert {:ok, _pixels} = run(encoded("dog.jpg"))
    assert_nothing_left()
  end

  test "a deadline in the past is one too, unless the pixels are there" do
    for _ <- 1..50 do
      case run(encoded("dog.jpg"), now() - 1_000) do
        {:ok, pixels} -> assert byte_size(pixels) == 3 * 224 * 224
        {:error, error} -> assert error.reason == :timeout
      end
    end

    assert_nothing_left()
  end

  for {how, reason} <- [kill: :serving_down, normal: :model_unloaded] do
    test "a wait for pixels ends with the process that they are for, which ends by #{how}" do
      tasks = spin(System.schedulers_online(), fn -> run(:spin) end)
      serving = spawn(fn -> receive do: (:end -> :ok) end)
      test = self()

      waiting =
        Task.async(fn ->
          monitor = Process.monitor(serving)
          send(test, :waiting)
          answer = run(encoded("dog.jpg"), :infinity, monitor)
          {answer, Process.info(self(), :message_queue_len)}
        end)

      assert_receive :waiting
      if unquote(how) == :kill, do: Process.exit(serving, :kill), else: send(serving, :end)

      assert {{:error, %Error{reason: unquote(reason)}}, {:message_queue_len, 0}} = await(waiting)

      for task <- tasks, do: Task.shutdown(task, :brutal_kill)
      assert_nothing_left()
    end
  end

  test "a picture can be taken back at any moment, and an answer comes or does not" do
    source = encoded("dog.jpg")

    outcomes =
      for n <- 1..300 do
        tag = make_ref()
        {:ok, job} = submit(tag, source)
        until = System.monotonic_time(:microsecond) + 20 * n
        spin(until)

        case Native.preprocess_cancel(job) do
          {:ok, :cancelled} ->
            assert Native.preprocess_cancel(job) == {:ok, :cancelled}

          {:ok, :sent} ->
            assert_receive {^tag, {:ok, _pixels}}
            assert Native.preprocess_cancel(job) == {:ok, :sent}
        end
      end

    assert length(outcomes) == 300
    assert_nothing_left()
  end

  defp spin(until), do: if(System.monotonic_time(:microsecond) < until, do: spin(until))

  describe "a decode that takes too long" do
    test "ends at its deadline" do
      1..System.schedulers_online()
      |> Enum.map(fn _ -> Task.async(fn -> run(:spin, now() + 20) end) end)
      |> Enum.each(fn task ->
        assert {:error, %Error{reason: reason}} = await(task)
        assert reason in [:timeout, :overloaded]
      end)

      assert_idle()
    end

    test "ends when its caller has given up or was killed" do
      for task <- spin(2 * System.schedulers_online(), fn -> run(:spin) end),
          do: Task.shutdown(task, :brutal_kill)

      assert_idle()
      assert {:ok, _pixels} = run(encoded("dog.jpg"))
    end

    test "ends when it has had its processor time" do
      limits = %{@limits | max_decode_ms: 20}

      assert {:error, %Error{reason: :image_too_large, message: message}} =
               Preprocess.run(:spin, @preprocessing, limits, :infinity)

      assert message =~ "picture took 20 ms of processor time"
    end
  end

  test "a large JPEG is decoded to fewer pixels where that is asked for" do
    small = %{@preprocessing | resize: {:shortest_edge, 16}, crop: {16, 16}}
    decode = &Preprocess.run(encoded("dog.jpg"), small, %{@limits | decode: &1}, :infinity)
    {:ok, exact} = decode.(:exact)
    {:ok, fast} = decode.(:fast)

    differences =
      for {a, b} <- Enum.zip(:binary.bin_to_list(exact), :binary.bin_to_list(fast)),
          do: abs(a - b)

    assert exact != fast
    assert Enum.sum(differences) / length(differences) < 1
  end

  test "many pictures of one caller do not keep another's waiting" do
    limits = %{@limits | max_decode_ms: 50}

    many = fn ->
      for _ <- 1..200,
          do: Native.preprocess(make_ref(), :spin, @preprocessing, limits, {1, nil}, nil)

      Process.sleep(:infinity)
    end

    [greedy] = spin(1, many)
    # Behind all of those it would take 10 s of processor time.
    assert {:ok, _pixels} = Task.await(Task.async(fn -> run(encoded("dog.jpg")) end), 60_000)
    assert {:ok, %{waiting: waiting, oldest_ms: oldest}} = Native.pixel_threads()
    assert waiting > 100 and oldest > 0
    Task.shutdown(greedy, :brutal_kill)
    assert_idle()
  end

  # Tasks, once all threads have begun with them.
  defp spin(count, job) do
    tasks = for _ <- 1..count, do: Task.async(job)
    wait_until(fn load -> load.busy == load.threads or load.busy == count end)
    tasks
  end

  defp assert_idle,
    do: wait_until(&match?(%{busy: 0, waiting: 0, oldest_ms: 0, memory: 0}, &1))

  defp wait_until(condition) do
    eventually(fn ->
      {:ok, load} = Native.pixel_threads()
      condition.(load)
    end)
  end

  test "losing the job takes nothing back" do
    tag = make_ref()
    {:ok, _job} = submit(tag, encoded("dog.jpg"))
    :erlang.garbage_collect()
    assert_receive {^tag, {:ok, _pixels}}
  end

  test "pictures of callers who have ended are passed over" do
    slow = slow()
    test = self()
    workers = System.schedulers_online()
    # All of one owner, so that they are in each other's way.
    owner = :erlang.phash2(test)
    {one, {:ok, _pixels}} = :timer.tc(fn -> run(slow) end)

    caller =
      spawn(fn ->
        for _ <- 1..(100 * workers) do
          {:ok, _} =
            Native.preprocess(make_ref(), slow, @preprocessing, @limits, {owner, nil}, nil)
        end

        send(test, :submitted)
        Process.sleep(:infinity)
      end)

    assert_receive :submitted
    Process.exit(caller, :kill)

    # Behind all of them in the queue: prepared, they would take a hundred times as long.
    {time, {:ok, _pixels}} = :timer.tc(fn -> run(slow) end)
    assert time < 50 * one
  end
end
