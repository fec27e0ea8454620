defmodule Image.ZeroShot.Test.Memory do
  @moduledoc false

  # What a VM holds after many requests, and after many loads. To be called in a fresh one.

  alias Image.ZeroShot
  alias Image.ZeroShot.Test.{FreshVM, Photo}

  @callers 8
  @words ~w(a the red green old small cat dog tree pizza rocket umbrella 東京 🐶 supercalifragilistic)

  @doc """
  Kilobytes and threads after `warm_up` requests, and again after `requests` more. `keep` is what
  a leak would keep of each.
  """
  def requests(model, warm_up, requests, keep \\ fn _i -> nil end) do
    pictures = pictures()
    mixed(model, pictures, 1..warm_up, fn _i -> nil end)
    before = footprint()
    kept = mixed(model, pictures, (warm_up + 1)..(warm_up + requests), keep)
    figures = %{before: before, after: footprint()}
    # In use until here.
    Map.put(figures, :kept, length(kept))
  end

  @doc """
  The same with a leak: what ViT-L/14@336 takes for pixels stays of each request.
  """
  def leaking(model, warm_up, requests) do
    requests(model, warm_up, requests, fn i -> :binary.copy(<<rem(i, 256)>>, 3 * 336 * 336) end)
  end

  @doc """
  Kilobytes with nothing loaded, after each of so many loads and unloads.
  """
  def loads(model, cycles) do
    for _ <- 1..cycles do
      :ok = ZeroShot.load(model)
      {:ok, _} = ZeroShot.try_classify({:path, "priv/samples/dog.jpg"}, ["a", "b"], model)
      :ok = ZeroShot.unload(model)
      footprint().resident
    end
  end

  @doc """
  Bytes of the weights, and how many were given back within `milliseconds` of an unload.
  """
  def unload(model, milliseconds) do
    # What libtorch keeps for itself is there after the first.
    loads(model, 1)
    :ok = ZeroShot.load(model)
    {:ok, info} = ZeroShot.info(model)
    {:ok, _} = ZeroShot.try_classify({:path, "priv/samples/dog.jpg"}, ["a", "b"], model)
    loaded = footprint().resident
    {time, :ok} = :timer.tc(fn -> ZeroShot.unload(model) end)
    true = time < 1_000 * milliseconds
    %{weights: info.memory, returned: 1024 * (loaded - footprint().resident), time: time}
  end

  def footprint do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    %{resident: FreshVM.status("VmRSS"), threads: FreshVM.status("Threads")}
  end

  defp mixed(model, pictures, range, keep) do
    range
    |> Task.async_stream(
      fn i ->
        request(i, pictures, model)
        keep.(i)
      end,
      max_concurrency: @callers,
      timeout: :infinity
    )
    |> Enum.flat_map(fn {:ok, kept} -> List.wrap(kept) end)
  end

  # The same for the same number, whatever the scheduling.
  defp request(i, pictures, model) do
    :rand.seed(:exsss, i)
    picture = elem(pictures, :rand.uniform(tuple_size(pictures)) - 1)

    answer =
      if rem(i, 10) == 0,
        do: ZeroShot.try_similarity(picture, elem(pictures, 0), model),
        else: ZeroShot.try_classify(picture, labels(), model)

    case answer do
      {:ok, _} -> :ok
      {:error, %{reason: reason}} when reason in [:invalid_image, :unsupported_image] -> :ok
    end
  end

  # Up to 20 words each, in most requests few labels and in some up to 200.
  defp labels do
    most = Enum.at([3, 10, 50, 200], :rand.uniform(4) - 1)
    for _ <- 1..:rand.uniform(most), do: label(:rand.uniform(20))
  end

  defp label(words), do: Enum.map_join(1..words, " ", fn _ -> Enum.random(@words) end)

  defp pictures do
    files =
      Enum.flat_map(["priv/samples", "test/fixtures/pictures"], &Path.wildcard(&1 <> "/*.*"))

    whole = Enum.map(files, &File.read!/1)
    photos = for width <- 50..1600//150, do: Photo.jpeg(width, div(width * 3, 4) + 1)
    cut = Enum.map(whole, &binary_part(&1, 0, div(byte_size(&1), 2)))
    List.to_tuple(photos ++ whole ++ Enum.take_every(cut, 4) ++ ["", "no picture"])
  end
end
