defmodule Image.ZeroShot.Call.Explain do
  @moduledoc false

  # Which part of a picture speaks for each label: a classification whose image tower gives the parts of the
  # picture's vector instead of the vector.

  alias Image.ZeroShot.{Embedding, Error, Native, Picture}
  alias Image.ZeroShot.Classifier.Scores
  alias Image.ZeroShot.Call.{Deadline, Options, Pipeline, Vectors}
  alias Image.ZeroShot.Serving.Client

  # Half blocks along the longer side of a drawing for a terminal: two fit into 80 columns.
  @blocks 38

  @doc """
  Explains the scores of labels or of a classifier. `own` are the options of explanations.
  """
  @spec run(term(), term(), Options.t(), Options.t()) :: {:ok, [map()]} | {:error, Error.t()}
  def run(%Embedding{}, _labels, _opts, _own) do
    raise ArgumentError,
          "expected a picture, got an Image.ZeroShot.Embedding: its patches are no longer known"
  end

  def run(picture, labels, opts, own) do
    run = fn lease, [{nil, picture}], prompts -> parts(lease, picture, prompts, opts, own) end

    finish = fn classifier, done, background ->
      with {:ok, explained} <- Scores.explain(classifier, done.images, background, opts),
           do: {:ok, {explained, done}}
    end

    # Drawing starts when the place in the serving is free again.
    with {:ok, {explained, done}} <- Pipeline.compare(picture, labels, opts, run, finish),
         do: explained |> Enum.map(&result(&1, done)) |> drawn(explained, done, own.format)
  end

  defp parts(lease, picture, prompts, opts, own) do
    with {:ok, shown} <- Picture.shown(picture, lease, opts, own.format != nil),
         {:ok, embeddings} <- Client.run(lease, [shown.pixels], prompts, :parts) do
      :ok = prompts |> Vectors.cut(embeddings) |> Vectors.warn(prompts, lease)
      columns = div(lease.info.image_size, lease.info.patch_size)
      more = %{columns: columns, deadline: lease.deadline}
      {:ok, shown |> Map.delete(:pixels) |> Map.merge(embeddings) |> Map.merge(more)}
    end
  end

  defp result({label, score, account}, %{columns: columns, size: size, window: box}) do
    %{
      label: label,
      score: score,
      cosine: account.cosine,
      rest: account.rest,
      explained: account.explained,
      map: rows(account.map, columns),
      contrast: rows(account.contrast, columns),
      box: box,
      size: size
    }
  end

  defp rows(floats, columns),
    do: Enum.chunk_every(for(<<x::float-32-native <- floats>>, do: x), columns)

  defp drawn(results, _explained, _done, nil), do: {:ok, results}

  # One scale for all, so that they can be compared.
  defp drawn(results, explained, done, format) do
    limit =
      results
      |> Enum.flat_map(&List.flatten(&1.contrast))
      |> Enum.map(&abs/1)
      |> Enum.max(fn -> 0.0 end)

    results
    |> Enum.zip(explained)
    |> Vectors.each(fn {result, {_label, _score, account}} ->
      layer = %{
        values: account.contrast,
        columns: done.columns,
        window: done.window,
        limit: limit,
        explained: account.explained
      }

      with :ok <- in_time(done.deadline),
           {:ok, picture} <-
             done.view |> Native.draw(layer, native(format)) |> Error.from_native(),
           do: {:ok, Map.put(result, format, picture)}
    end)
  end

  defp native(:png), do: :png

  defp native(:ansi) do
    colours = if System.get_env("COLORTERM") in ["truecolor", "24bit"], do: true, else: :palette
    {:ansi, @blocks, colours}
  end

  defp in_time(deadline) do
    if Deadline.remaining(deadline) == 0,
      do:
        Error.error(
          :timeout,
          "the call timed out while its maps were drawn; give a smaller :top_k or raise :timeout"
        ),
      else: :ok
  end
end
