defmodule Image.ZeroShot.Stub.Answer do
  @moduledoc false

  # From what a stub says of a picture to the picture's vector: one that gives the scores said, by the
  # same arithmetic as any other vector.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.{Argument, Labels, Options, Templates}
  alias Image.ZeroShot.Stub.Words

  # The logit scale of a stub, the same as of OpenAI's models.
  @scale 100.0

  # A unit vector has so much room for cosines with the labels.
  @room 0.9

  # Softmax and its like tell no smaller scores apart.
  @least 1.0e-7
  @least_odds 2.0e-5

  # The cosine of a picture with "none of these" under `multi_label: true`: labels that a stub does not
  # name have a cosine of 0, so they stay far below it.
  @background 0.12

  @most 100

  @typedoc "What a picture shows, in words or with scores; or how it fails."
  @type t :: String.t() | %{optional(term()) => number()} | {:error, Error.t()}

  @spec scale() :: float()
  def scale, do: @scale

  @doc """
  Raises unless this can be an answer.
  """
  @spec check!(term()) :: t()
  def check!({:error, %Error{}} = answer), do: answer
  def check!(text) when is_binary(text) and text != "", do: checked!(text, String.valid?(text))

  def check!(%{} = scores) when not is_struct(scores) do
    checked!(scores, map_size(scores) in 1..@most and Enum.all?(Map.values(scores), &is_number/1))
  end

  def check!(other), do: checked!(other, false)

  defp checked!(answer, true), do: answer

  defp checked!(answer, false) do
    raise ArgumentError,
          "expected a stub to say what a picture shows: a text such as \"dog\", at most #{@most} " <>
            "scores such as %{\"cat\" => 0.2, \"dog\" => 0.8}, or {:error, %Image.ZeroShot.Error{}}, " <>
            "got: #{Argument.shown(answer)}"
  end

  @doc """
  The vector of a picture, for a call with these options.
  """
  @spec vector(String.t() | map(), Options.t(), Serving.info()) :: Words.vector()
  def vector(text, _opts, %{dim: dim}) when is_binary(text), do: Words.vector(text, dim)

  def vector(scores, %{scores: kind} = opts, %{dim: dim, logit_bias: bias} = info) do
    # The call has checked that no label is called like it.
    {:ok, background} = Labels.background([], opts)
    background = Labels.background_for(background, info, opts)
    scores = Enum.to_list(scores)
    behind = if opts.multi_label, do: behind(scores, background, dim), else: []
    # As SigLIP scores each label by itself, it has no background unless one is given.
    kind = if opts.multi_label and behind == [], do: :sigmoid, else: kind

    {rows, parts} =
      scores |> Enum.flat_map(&parts(&1, background, kind, opts, dim)) |> Enum.unzip()

    targets = targets(parts, kind, length(behind), scale(opts), bias)
    solve(rows ++ behind, targets, scores)
  end

  # Nothing is scored: the picture shows all of it, by weight.
  def vector(scores, opts, %{dim: dim}) do
    none = %{term: make_ref()}

    scores
    |> Enum.map(fn {label, score} -> {score / 1, row(label, none, opts, dim)} end)
    |> Words.mix()
    |> Words.unit()
  end

  # Several rows of a background have its score together.
  defp parts({term, score}, %{term: term, counts: [_, _ | _]} = background, kind, _opts, dim) do
    rows = background_rows(background, dim)
    for row <- rows, do: {row, part(kind, score, length(rows))}
  end

  defp parts({label, score}, background, _kind, opts, dim),
    do: [{row(label, background, opts, dim), score}]

  defp part(:softmax, score, count), do: score / count
  defp part(:logits, score, count), do: score - :math.log(count)
  defp part(_of_the_highest, score, _count), do: score

  # A label is embedded as a call embeds it: the mean of its prompts.
  defp row(term, %{term: term, prompts: [_ | _] = prompts}, _opts, dim), do: mean(prompts, dim)

  defp row(label, _background, opts, dim) when is_binary(label),
    do: opts |> Map.get(:template, [nil]) |> Templates.prompts(label) |> mean(dim)

  defp row(label, _background, _opts, _dim) do
    raise ArgumentError,
          "expected the labels that a stub scores to be texts, got: #{inspect(label, limit: 5)}; " <>
            "for a label with prompts of its own, give one of the prompts"
  end

  defp mean(prompts, dim) do
    prompts |> Enum.map(&{1.0, Words.vector(&1, dim)}) |> Words.mix() |> Words.unit()
  end

  defp behind(scores, background, dim) do
    if Enum.any?(scores, fn {label, _score} -> label == background.term end) do
      raise ArgumentError,
            "expected no score for #{inspect(background.term)}, which is :other: with " <>
              "multi_label: true it has none"
    end

    background_rows(background, dim)
  end

  defp background_rows(%{counts: counts, prompts: prompts}, dim) do
    {rows, []} = Enum.map_reduce(counts, prompts, &Enum.split(&2, &1))
    Enum.map(rows, &mean(&1, dim))
  end

  # A function from the cosine of a sure label to the cosines of all.
  defp targets(scores, _kind, behind, scale, _bias) when behind > 0 do
    odds = odds(scores, "with multi_label: true")
    # Together they weigh as one.
    each = @background - :math.log(behind) / scale
    fn _base -> Enum.map(odds, &(@background + &1 / scale)) ++ List.duplicate(each, behind) end
  end

  defp targets(scores, :sigmoid, 0, scale, bias) do
    odds = odds(scores, "with scores: :sigmoid")
    fn _base -> Enum.map(odds, &((&1 - bias) / scale)) end
  end

  defp targets(scores, :softmax, 0, scale, _bias) do
    within!(scores, 0, 1, "with scores: :softmax")
    sum = Enum.sum(scores)

    if abs(sum - 1) > 0.01 do
      raise ArgumentError,
            "expected the scores of a stub to sum to 1.0, as with scores: :softmax, got: " <>
              "#{Float.round(sum / 1, 4)}; give a score for each label of the call"
    end

    fn base -> Enum.map(scores, &max(base + :math.log(max(&1, @least)) / scale, -base)) end
  end

  defp targets(scores, :cosine, 0, _scale, _bias), do: fn _base -> Enum.map(scores, &(&1 / 1)) end

  defp targets(scores, :logits, 0, scale, _bias),
    do: fn _base -> Enum.map(scores, &(&1 / scale)) end

  defp odds(scores, where) do
    within!(scores, 0, 1, where)
    for p <- scores, do: :math.log(clamp(p) / (1 - clamp(p)))
  end

  defp scale(opts), do: opts.logit_scale || @scale

  defp clamp(p), do: p |> max(@least_odds) |> min(1 - @least_odds)

  defp within!(scores, least, most, where) do
    for score <- scores, score < least or score > most do
      raise ArgumentError,
            "expected the scores of a stub to be from #{least} to #{most} #{where}, got: #{score}"
    end
  end

  defp solve(rows, targets, scores) do
    base = @room / :math.sqrt(length(rows))

    Enum.find_value([base, base / 2, base / 4], &fitting(rows, targets.(&1))) ||
      raise ArgumentError,
            "no picture has these scores, because they are too far apart or their labels have the " <>
              "same words, got: #{inspect(Map.new(scores), limit: 5)}"
  end

  # A unit vector with these cosines to the rows. What they leave of its length goes to component 0,
  # which no text has.
  defp fitting(rows, cosines) do
    matrix = for {row, cosine} <- Enum.zip(rows, cosines), do: dots(row, rows) ++ [cosine]

    with [_ | _] = weights <- eliminate(matrix, []) do
      span = weights |> Enum.zip(rows) |> Words.mix()
      rest = 1.0 - Words.dot(span, span)
      if rest >= 0.0, do: Map.put(span, 0, :math.sqrt(rest))
    end
  end

  defp dots(row, rows), do: Enum.map(rows, &Words.dot(row, &1))

  # Gauss, with the largest pivot. `nil` where rows depend on each other.
  defp eliminate([], done), do: back(done, [])

  defp eliminate(rows, done) do
    [pivot | _] = top = Enum.max_by(rows, fn [first | _] -> abs(first) end)

    if abs(pivot) > 1.0e-6 do
      rest = for row <- List.delete(rows, top), do: reduce(row, top)
      eliminate(rest, [top | done])
    end
  end

  defp reduce([first | row], [pivot | top]),
    do: Enum.zip_with(row, top, fn x, y -> x - y * first / pivot end)

  # From the last row up: each has its own unknown first, then those that are solved.
  defp back([], solved), do: solved

  defp back([[pivot | rest] | rows], solved) do
    {known, [target]} = Enum.split(rest, -1)
    sum = known |> Enum.zip(solved) |> Enum.reduce(0.0, fn {x, y}, sum -> sum + x * y end)
    back(rows, [(target - sum) / pivot | solved])
  end
end
