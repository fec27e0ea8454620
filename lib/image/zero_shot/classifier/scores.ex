defmodule Image.ZeroShot.Classifier.Scores do
  @moduledoc false

  # From embeddings and a classifier to scored labels. The core computes; here stand the choice of the
  # scores and the labels' terms.

  alias Image.ZeroShot.{Classifier, Error, Native}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Serving.Identity

  @doc """
  Whether the model has the scores that the options ask for.
  """
  @spec check(Options.t(), Identity.t()) :: :ok | {:error, Error.t()}
  def check(%{scores: :sigmoid}, %{logit_bias: nil} = model) do
    Error.error(
      :unsupported_scores,
      "scores: :sigmoid asks for the probability of each label by itself, which #{Identity.shown(model)} " <>
        "does not have: its training compared labels; take multi_label: true, which compares each label " <>
        "with a background, or a SigLIP model"
    )
  end

  def check(_opts, _model), do: :ok

  @doc """
  Results for the embedding of one picture, best first. `background` is the name and the rows of the
  prompts that the labels are compared with.
  """
  @spec rank(Classifier.t(), binary(), {term(), binary()}, Options.t()) ::
          {:ok, [%{label: term(), score: float()}]} | {:error, Error.t()}
  def rank(classifier, image, {other, background}, opts) do
    scoring = scoring(classifier, opts)

    with {:ok, ranked} <-
           Error.from_native(Native.rank(image, classifier.texts, background, scoring)),
         do: {:ok, results(ranked, classifier.labels, other(classifier, other))}
  end

  @doc """
  Same as `rank/4`, for each of the rows of many pictures.
  """
  @spec rank_many(Classifier.t(), binary(), {term(), binary()}, Options.t()) ::
          {:ok, [[%{label: term(), score: float()}]]} | {:error, Error.t()}
  def rank_many(classifier, images, {other, background}, opts) do
    scoring = scoring(classifier, opts)
    other = other(classifier, other)

    with {:ok, all} <-
           images
           |> Native.rank_many(classifier.model.dim, classifier.texts, background, scoring)
           |> Error.from_native(),
         do: {:ok, Enum.map(all, &results(&1, classifier.labels, other))}
  end

  @doc """
  Same as `rank/4`, for the parts of one picture's embedding. Each result is its label, its score and its account.
  """
  @spec explain(Classifier.t(), binary(), {term(), binary()}, Options.t()) ::
          {:ok, [{term(), float(), map()}]} | {:error, Error.t()}
  def explain(classifier, parts, {other, background}, opts) do
    %{labels: labels, texts: texts, model: %{dim: dim}} = classifier
    scoring = scoring(classifier, opts)

    with {:ok, explained} <-
           parts |> Native.explain(dim, texts, background, scoring) |> Error.from_native(),
         do:
           {:ok,
            for({i, score, account} <- explained, do: {label(i, labels, other), score, account})}
  end

  defp scoring(%{calibration: calibration, model: model}, opts) do
    kind = kind(opts, calibration, model)
    # What was fitted are shares; a sigmoid is the model's own.
    fitted = if kind != :sigmoid, do: calibration

    %{
      kind: kind,
      logit_scale: if(fitted, do: fitted.logit_scale) || opts.logit_scale || model.logit_scale,
      logit_bias: model.logit_bias,
      threshold: if(fitted, do: fitted.threshold),
      top: opts.top_k,
      least: opts.min_score
    }
  end

  # Each label by itself: by the model's own probability, unless it is to be compared with a background.
  defp kind(%{multi_label: false, scores: scores}, _calibration, _model), do: scores
  defp kind(_opts, %{threshold: threshold}, _model) when threshold != nil, do: :independent
  defp kind(%{other: nil}, _calibration, %{logit_bias: bias}) when bias != nil, do: :sigmoid
  defp kind(_opts, _calibration, _model), do: :independent

  defp other(%{calibration: %{other: other}}, _background), do: other
  defp other(_not_calibrated, background), do: background

  defp results(ranked, labels, other) do
    for {index, score} <- ranked, do: %{label: label(index, labels, other), score: score}
  end

  defp label(index, labels, other),
    do: if(index < tuple_size(labels), do: elem(labels, index), else: other)

  @doc """
  Averages rows: one for each count of them.
  """
  @spec ensemble([pos_integer()], binary()) :: {:ok, binary()} | {:error, Error.t()}
  def ensemble(counts, texts) do
    if Enum.all?(counts, &(&1 == 1)),
      do: {:ok, texts},
      else: texts |> Native.ensemble(counts) |> Error.from_native()
  end
end
