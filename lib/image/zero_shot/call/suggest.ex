defmodule Image.ZeroShot.Call.Suggest do
  @moduledoc false

  # The best labels of a vocabulary for a picture, those that mean the same as one.

  alias Image.ZeroShot.{Classifier, Embedding, Error, Native}
  alias Image.ZeroShot.Call.{Options, PictureStream, Pipeline, Vectors, Vocabulary}

  # Prompts of two labels with a cosine of so much mean the same.
  @alike 0.95

  # So many results are looked through for each that is returned.
  @more 4

  @spec run(term(), Options.t()) :: {:ok, Pipeline.results()} | {:error, Error.t()}
  def run(picture, opts) do
    # A picture that cannot be read is an error before two thousand prompts are embedded.
    with {:ok, [embedding]} <- Vectors.embed([{nil, picture}], opts),
         {:ok, classifier} <- Vocabulary.classifier(opts),
         do: best(embedding, classifier, opts)
  end

  @doc """
  The same for each of many pictures, as a stream. `own` are the options of streams.

  The vocabulary is compiled before the first picture: a mistake in it is one error, and is raised.
  """
  @spec stream(Enumerable.t(), Options.t(), Options.t()) :: Enumerable.t()
  def stream(pictures, opts, own) do
    start = fn ->
      with {:ok, classifier} <- Vocabulary.classifier(opts),
           do: {:ok, fn [picture] -> [one(picture, classifier, opts)] end}
    end

    PictureStream.stream(pictures, &PictureStream.alone/1, start, opts, own)
  end

  defp one(picture, classifier, opts) do
    with {:ok, [embedding]} <- Vectors.embed([{nil, picture}], opts),
         do: best(embedding, classifier, opts)
  end

  @spec best(Embedding.t(), Classifier.t(), Options.t()) ::
          {:ok, Pipeline.results()} | {:error, Error.t()}
  defp best(embedding, classifier, opts) do
    top = opts.top_k && @more * opts.top_k

    with {:ok, results} <-
           Pipeline.rank(embedding, classifier, %{opts | top_k: top, min_score: nil}),
         {:ok, alike} <- alike(classifier, results) do
      best = results |> Enum.zip(alike) |> merge() |> Enum.take(opts.top_k || length(results))
      {:ok, Enum.filter(best, &(opts.min_score == nil or &1.score >= opts.min_score))}
    end
  end

  # For each result the places of those that mean the same.
  defp alike(%{model: %{dim: dim}} = classifier, results) do
    rows = rows(classifier, results)
    all = for %{label: label} <- results, into: <<>>, do: Map.fetch!(rows, label)

    scoring = %{
      kind: :cosine,
      logit_scale: 1.0,
      logit_bias: nil,
      threshold: nil,
      top: nil,
      least: @alike
    }

    with {:ok, ranked} <- all |> Native.rank_many(dim, all, <<>>, scoring) |> Error.from_native(),
         do: {:ok, Enum.map(ranked, fn alike -> Enum.map(alike, &elem(&1, 0)) end)}
  end

  # The rows of the labels that the results have.
  defp rows(classifier, results) do
    wanted = MapSet.new(results, & &1.label)
    size = 4 * classifier.model.dim

    for {label, index} <- classifier.labels |> Tuple.to_list() |> Enum.with_index(),
        label in wanted,
        into: %{},
        do: {label, binary_part(classifier.texts, index * size, size)}
  end

  # Each result joins the best one before it that means the same or is spelled the same. `firsts` are
  # the places of those that others join, by place and by spelling.
  defp merge(results) do
    {groups, _firsts} =
      results
      |> Enum.with_index()
      |> Enum.reduce({%{}, %{}}, fn {{result, alike}, place}, {groups, firsts} ->
        spelling = spelling(result.label)
        same = for place <- [firsts[spelling] | alike], is_map_key(groups, place), do: place

        case Enum.min(same, fn -> nil end) do
          nil -> {Map.put(groups, place, result), Map.put_new(firsts, spelling, place)}
          first -> {Map.update!(groups, first, &add(&1, result)), firsts}
        end
      end)

    groups |> Enum.sort() |> Enum.map(&elem(&1, 1)) |> Enum.sort_by(& &1.score, :desc)
  end

  defp add(group, result), do: %{group | score: group.score + result.score}

  defp spelling(label) when is_binary(label),
    do: label |> String.downcase() |> String.replace(~r/[\s-]|s$/, "")

  defp spelling(label), do: {:term, label}
end
