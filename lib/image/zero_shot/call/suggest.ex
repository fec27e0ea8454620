defmodule Image.ZeroShot.Call.Suggest do
  @moduledoc false

  # The best labels of a vocabulary for a picture, those that mean the same as one.

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Call.{Options, Pipeline, Vectors, Vocabulary}

  # Prompts of two labels with a cosine of so much mean the same.
  @alike 0.95

  # So many results are looked through for each that is returned.
  @more 4

  @spec run(term(), Options.t()) :: {:ok, Pipeline.results()} | {:error, Error.t()}
  def run(picture, opts) do
    # A picture that cannot be read is an error before two thousand prompts are embedded.
    with {:ok, _pictures} <- Vectors.open([{nil, picture}], opts),
         {:ok, classifier} <- Vocabulary.classifier(opts),
         all = %{opts | top_k: @more * opts.top_k, min_score: nil},
         {:ok, results} <- Pipeline.rank(picture, classifier, all) do
      best = results |> merge(rows(classifier, results)) |> Enum.take(opts.top_k)
      {:ok, Enum.filter(best, &(opts.min_score == nil or &1.score >= opts.min_score))}
    end
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

  # Each result joins the best one before it that means the same.
  defp merge(results, rows) do
    results
    |> Enum.reduce([], fn result, groups ->
      case Enum.split_while(groups, &(not same?(&1, result, rows))) do
        {_all, []} -> groups ++ [result]
        {before, [group | rest]} -> before ++ [add(group, result) | rest]
      end
    end)
    |> Enum.sort_by(& &1.score, :desc)
  end

  defp add(group, result), do: %{group | score: group.score + result.score}

  defp same?(one, other, rows) do
    spelling(one.label) == spelling(other.label) or
      match?(
        {:ok, cosine} when cosine >= @alike,
        Native.cosine(rows[one.label], rows[other.label])
      )
  end

  defp spelling(label) when is_binary(label),
    do: label |> String.downcase() |> String.replace(~r/[\s-]|s$/, "")

  defp spelling(label), do: label
end
