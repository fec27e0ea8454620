defmodule Image.ZeroShot.Test.Reload do
  @moduledoc false

  # New code for every module of the library, while callers use it. To be called in a fresh VM.

  alias Image.ZeroShot
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.{Directory, Model}

  # How long callers may take to get to the new code.
  @attempts 2_000

  @doc """
  What so many callers get while all modules are loaded anew so many times, each time when they
  have come to the code of the time before; what became of the modules; and whether the serving is
  the process that it was.
  """
  def under_load(model, callers, times) do
    :ok = ZeroShot.load(model)
    serving = serving(model)
    counts = :counters.new(callers + 1, [])
    users = for i <- 1..callers, do: Task.async(fn -> use_until_stopped(counts, i, model, []) end)

    loaded =
      for _ <- 1..times, reduce: [] do
        loaded ->
          wait_for_calls(counts, callers, for(i <- 1..callers, do: :counters.get(counts, i)))
          loaded ++ load_all()
      end

    :counters.add(counts, callers + 1, 1)
    answers = users |> Task.await_many(60_000) |> List.flatten() |> Enum.frequencies()
    %{answers: answers, modules: Enum.frequencies(loaded), same: serving(model) == serving}
  end

  defp load_all do
    {:ok, modules} = :application.get_key(:image_zero_shot, :modules)
    for module <- modules, of_the_library?(module), do: load(module)
  end

  # Not those of the tests, one of which this is.
  defp of_the_library?(module),
    do: :code.which(module) != :cover_compiled and source(module) =~ "/lib/image"

  defp source(module), do: to_string(module.module_info(:compile)[:source])

  defp load(module) do
    :code.purge(module)

    case :code.load_file(module) do
      {:module, ^module} -> :new
      {:error, reason} -> {module, reason}
    end
  end

  # Two more each: the last of them began after the code was loaded.
  defp wait_for_calls(counts, callers, before, attempts \\ @attempts) do
    done = for i <- 1..callers, do: :counters.get(counts, i)

    cond do
      Enum.all?(Enum.zip(before, done), fn {before, now} -> now >= before + 2 end) ->
        :ok

      attempts == 0 ->
        raise "callers do not get their answers"

      true ->
        Process.sleep(10)
        wait_for_calls(counts, callers, before, attempts - 1)
    end
  end

  defp use_until_stopped(counts, i, model, answers) do
    answer =
      case ZeroShot.try_classify({:path, "priv/samples/dog.jpg"}, ["cat", "dog"], model) do
        {:ok, [%{label: label} | _]} -> label
        {:error, error} -> error.reason
      end

    :counters.add(counts, i, 1)

    if :counters.get(counts, :counters.info(counts).size) == 0,
      do: use_until_stopped(counts, i, model, [answer | answers]),
      else: [answer | answers]
  end

  defp serving(model) do
    {server, _entry} = Directory.lookup({:model, Model.key(Options.load!(model))})
    server
  end
end
