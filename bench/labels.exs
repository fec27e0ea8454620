# What templates, suggestions, `:other`, `:min_score`, `:multi_label`, `:logit_scale` and classifiers do, on the 200
# pictures of test/fixtures/emoji and the embedded model: the figures of guides/labels.md.
#
#     mix run bench/labels.exs
#
# Takes two to four minutes on two cores. All figures but the last table's are the same every time.

Code.ensure_loaded?(Image.ZeroShot.Test.JSON) || Code.require_file("test/support/json.ex")

defmodule Bench.Labels do
  @moduledoc false

  alias Image.ZeroShot
  alias Image.ZeroShot.Test.JSON

  @folder "test/fixtures/emoji"
  @model [repo: :embedded, device: :cpu]

  # What the model was trained with: training/captions.py. Half of it is the first.
  @seen [
    "a photo of {label}",
    "{label}",
    "a {label}",
    "a photo of a {label}",
    "a photo of the {label}",
    "a picture of a {label}",
    "a picture of {label}",
    "an emoji of a {label}",
    "a drawing of {label}"
  ]

  @plain ["a photo", "a picture", "a drawing", "an emoji"]

  def main do
    pictures = pictures()
    templates(pictures)
    others(pictures)
    multi_label(pictures)
    logit_scale(pictures)
    suggestions(pictures)
    cost(pictures)
  end

  defp pictures do
    for %{"file" => file, "label" => label, "candidates" => candidates} <-
          JSON.read!(Path.join(@folder, "labels.json")) do
      %{
        picture: File.read!(Path.join(@folder, file)),
        label: label,
        candidates: candidates,
        wrong: List.delete(candidates, label)
      }
    end
  end

  # Each picture has ten candidates of its own; the 200 are the labels of all pictures.
  defp templates(pictures) do
    table("template", ["right of 10 labels", "right of 200"])

    for template <- [
          nil,
          "a photo of {label}",
          "an emoji of a {label}",
          "a photo of a {label}.",
          "a tattoo of the {label}.",
          @seen,
          :simple_imagenet,
          :openai_imagenet
        ] do
      opts = [template: template] ++ @model
      all = ZeroShot.classifier(labels(pictures), opts)

      row(if(template == @seen, do: "the 9 of its training", else: inspect(template)), [
        count(pictures, &(ZeroShot.label(&1.picture, &1.candidates, opts) == &1.label)),
        count(pictures, &(ZeroShot.label(&1.picture, all) == &1.label))
      ])
    end
  end

  # The names of all pictures' candidates, 1,053, as vocabulary.
  defp suggestions(pictures) do
    names = pictures |> Enum.flat_map(& &1.candidates) |> Enum.uniq()
    columns = [1, 5, 10]
    table("suggestions of #{length(names)}", Enum.map(columns, &"right among #{&1}"))

    suggested =
      each(pictures, fn one ->
        results = ZeroShot.suggest(one.picture, [vocabulary: names] ++ @model)
        Enum.find_index(results, &(&1.label == one.label))
      end)

    row("default", for(k <- columns, do: Enum.count(suggested, &(&1 < k))))
  end

  defp others(pictures) do
    table("rejection", ["caught, right label missing", "refused, right label there"])

    for opts <- [
          [other: "something else"],
          [other: ["a photo"]],
          [other: @plain],
          [other: :names],
          [min_score: 0.5],
          [min_score: 0.9],
          [min_score: 0.99],
          [scores: :cosine, min_score: 0.4],
          [scores: :cosine, min_score: 0.5],
          [scores: :cosine, min_score: 0.6]
        ] do
      refused = fn one, labels ->
        opts = Enum.map(opts, &named(&1, one, pictures)) ++ @model
        ZeroShot.label(one.picture, labels, opts) not in labels
      end

      row(inspect(opts), [
        count(pictures, &refused.(&1, &1.wrong)),
        count(pictures, &refused.(&1, &1.candidates))
      ])
    end
  end

  # The names of 50 things that are not in question.
  defp named({:other, :names}, one, pictures) do
    names = pictures |> labels() |> Kernel.--(one.candidates) |> Enum.sort_by(&:erlang.phash2/1)
    {:other, names |> Enum.take(50) |> Enum.map(&"a photo of #{&1}")}
  end

  defp named(option, _one, _pictures), do: option

  defp multi_label(pictures) do
    table("multi_label: true", [
      "right labels from 0.5",
      "median",
      "wrong ones from 0.5",
      "median"
    ])

    for other <- ["something", nil, @plain, :names] do
      results =
        each(pictures, fn one ->
          opts = [multi_label: true] ++ [named({:other, other}, one, pictures)] ++ @model
          results = ZeroShot.classify(one.picture, one.candidates, opts)
          Enum.map(results, &{&1.label == one.label, &1.score})
        end)

      {right, wrong} = results |> Enum.concat() |> Enum.split_with(&elem(&1, 0))
      columns = for part <- [right, wrong], do: Enum.map(part, &elem(&1, 1))

      row(
        "other: #{inspect(other)}",
        Enum.flat_map(columns, &[share(&1, 0.5), &1 |> median() |> Float.round(4)])
      )
    end
  end

  defp logit_scale(pictures) do
    table("logit_scale", ["right of 10", "median best score", "without the right label"])

    for scale <- [5, 10, 20, nil, 100] do
      opts = [logit_scale: scale] ++ @model
      best = fn one, labels -> hd(ZeroShot.classify(one.picture, labels, opts)) end
      score = fn key -> pictures |> each(&best.(&1, Map.fetch!(&1, key)).score) |> median() end

      row(inspect(scale), [
        count(pictures, &(best.(&1, &1.candidates).label == &1.label)),
        Float.round(score.(:candidates), 3),
        Float.round(score.(:wrong), 3)
      ])
    end
  end

  defp cost(pictures) do
    table("ms a call, 200 labels", ["prompts", "first", "later", "compiled"])
    %{picture: picture} = hd(pictures)
    labels = labels(pictures)

    for template <- ["a photo of {label}", :simple_imagenet, :openai_imagenet] do
      # Nothing is remembered, and libtorch has run before.
      :ok = ZeroShot.unload(@model)
      ZeroShot.label(picture, ["warm"], @model)

      opts = [template: template, timeout: 120_000] ++ @model
      given = fn -> ZeroShot.label(picture, labels, opts) end
      first = time(given)
      classifier = ZeroShot.classifier(labels, opts)
      compiled = fn -> ZeroShot.label(picture, classifier) end
      {later, later_compiled} = Enum.unzip(for _ <- 1..41, do: {time(given), time(compiled)})
      {:ok, info} = ZeroShot.info(@model)
      times = Enum.map([first, median(later), median(later_compiled)], &Float.round(&1, 1))
      row(inspect(template), [info.text_cache.size - 1 | times])
    end
  end

  defp labels(pictures), do: Enum.map(pictures, & &1.label)

  defp each(pictures, function) do
    pictures
    |> Task.async_stream(function, timeout: :infinity)
    |> Enum.map(fn {:ok, result} -> result end)
  end

  defp count(pictures, function), do: pictures |> each(function) |> Enum.count(& &1)

  defp share(scores, from),
    do: "#{Float.round(100 * Enum.count(scores, &(&1 >= from)) / length(scores), 1)} %"

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  defp time(function) do
    {microseconds, _} = :timer.tc(function)
    microseconds / 1000
  end

  defp table(title, columns) do
    IO.puts("")
    row(title, columns)
    row("---", Enum.map(columns, fn _ -> "---" end))
  end

  defp row(title, columns), do: IO.puts("| " <> Enum.join([title | columns], " | ") <> " |")
end

Bench.Labels.main()
