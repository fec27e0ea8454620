defmodule Image.ZeroShot.Test.Responsiveness do
  @moduledoc false

  # How long the rest of a VM waits while callers keep a model and its pixel threads busy.

  alias Image.ZeroShot
  alias Image.ZeroShot.Native
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Native.Torch
  alias Image.ZeroShot.Serving.{Model, Queue}
  alias Image.ZeroShot.Test.Photo

  @labels ["a cat", "a dog", "a pizza", "a car", "a tree"]

  @probes [:timer, :file, :dirty]

  @doc """
  Sorted microseconds, by name: how late a timer was, how long a file and a dirty job took.
  """
  def quiet(seconds), do: probe_until(now() + seconds * 1_000_000)

  @doc """
  The same beside so many callers, and what they got.
  """
  def under_load(model, callers, seconds) do
    :ok = ZeroShot.load(model)
    pictures = List.to_tuple([Photo.jpeg(4000, 3000) | List.duplicate(Photo.jpeg(640, 480), 19)])
    ending = now() + seconds * 1_000_000
    users = for i <- 1..callers, do: Task.async(fn -> use_until(ending, pictures, i, model) end)
    # The serving and the pixel threads are busy by then.
    Process.sleep(500)
    figures = probe_until(ending)
    answers = users |> Task.await_many(:infinity) |> List.flatten() |> Enum.frequencies()
    Map.put(figures, :answers, answers)
  end

  @doc """
  Which jobs on dirty schedulers were done before the last of so many requests had its answer.
  """
  def overtake(model, callers) do
    :ok = ZeroShot.load(model)
    picture = Photo.jpeg(2000, 1500)
    test = self()

    for _ <- 1..callers do
      spawn_link(fn -> send(test, {:answer, ask(picture, model)}) end)
    end

    spawn_link(fn ->
      file()
      send(test, {:done, :file})
      dirty()
      send(test, {:done, :dirty})

      scoring = %{
        kind: :softmax,
        logit_scale: 1.0,
        logit_bias: nil,
        threshold: nil,
        top: nil,
        least: nil
      }

      vector = <<1.0::float-32-native>>
      {:ok, [{0, 1.0}]} = Native.rank(vector, vector, "", scoring)
      send(test, {:done, :score})
    end)

    overtaken(callers, %{}, [])
  end

  defp overtaken(0, answers, done),
    do: %{answers: answers, done_before_the_last: Enum.reverse(done)}

  defp overtaken(left, answers, done) do
    receive do
      {:answer, kind} -> overtaken(left - 1, Map.update(answers, kind, 1, &(&1 + 1)), done)
      {:done, name} -> overtaken(left, answers, [name | done])
    end
  end

  @doc """
  Sorted microseconds of each native function that runs on a normal scheduler, as large as it gets.
  """
  def native_calls(model, count) do
    {:ok, ref, info} = Model.open(Options.load!(model))
    pixels = List.duplicate(:binary.copy(<<7>>, 3 * info.image_size ** 2), info.max_batch)
    prompts = for i <- 1..Queue.max_prompts(info.max_batch), do: "a photo of a dog #{i}"
    vector = :binary.copy(<<1.0::float-32-native>>, 768)
    limits = Options.picture(Options.embed!([]))
    picture = {:encoded, :binary.copy("no picture", 2_500_000)}

    calls = [
      encode: fn -> {:ok, :queued} = Torch.encode(ref, make_ref(), pixels, prompts) end,
      info: fn -> {:ok, _} = Torch.model_info(ref) end,
      cosine: fn -> {:ok, _} = Native.cosine(vector, vector) end,
      preprocess: fn ->
        {:ok, _} =
          Native.preprocess(make_ref(), picture, info.preprocessing, limits, {1, nil}, nil)
      end
    ]

    figures = for {name, call} <- calls, do: {name, Enum.sort(for _ <- 1..count, do: timed(call))}
    [cancel: Enum.sort(cancels(picture, info, limits, count))] ++ figures
  end

  defp cancels(picture, info, limits, count) do
    for _ <- 1..count do
      {:ok, job} =
        Native.preprocess(make_ref(), picture, info.preprocessing, limits, {1, nil}, nil)

      timed(fn -> {:ok, _} = Native.preprocess_cancel(job) end)
    end
  end

  defp use_until(ending, pictures, i, model, answers \\ []) do
    if now() < ending do
      picture = elem(pictures, rem(i, tuple_size(pictures)))
      use_until(ending, pictures, i + 7, model, [ask(picture, model) | answers])
    else
      answers
    end
  end

  defp ask(picture, model) do
    case ZeroShot.try_classify(picture, @labels, model) do
      {:ok, _} -> :ok
      {:error, error} -> error.reason
    end
  end

  defp probe_until(ending) do
    @probes
    |> Enum.map(fn name -> Task.async(fn -> {name, probe_until(ending, name, [])} end) end)
    |> Task.await_many(:infinity)
    |> Map.new()
  end

  defp probe_until(ending, probe, times) do
    if now() < ending,
      do: probe_until(ending, probe, [probe(probe) | times]),
      else: Enum.sort(times)
  end

  defp probe(:timer), do: timer()
  defp probe(:file), do: file()
  defp probe(:dirty), do: dirty()

  defp timer do
    start = now()

    receive do
    after
      1 -> now() - start - 1_000
    end
  end

  defp file do
    Process.sleep(2)
    timed(fn -> {:ok, _} = File.read("mix.exs") end)
  end

  defp dirty do
    Process.sleep(2)
    timed(fn -> :dirty_cpu = :erts_debug.dirty_cpu(:scheduler, :type) end)
  end

  defp timed(act) do
    start = now()
    act.()
    now() - start
  end

  defp now, do: System.monotonic_time(:microsecond)
end
