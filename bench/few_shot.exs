# What examples add to names, and what calibration makes of scores, on the embedded model and pictures
# that it has never seen: the figures of guides/labels.md.
#
#     cd training && python make_few_shot.py /tmp/few_shot    # 15 pictures of each of 1,327 emoji
#     mix run bench/few_shot.exs /tmp/few_shot
#
# The first ten pictures of an emoji are its examples, the others are to be told. Takes about two minutes
# on two cores.

Code.ensure_loaded?(Image.ZeroShot.Test.JSON) || Code.require_file("test/support/json.ex")

defmodule Bench.FewShot do
  @moduledoc false

  alias Image.ZeroShot
  alias Image.ZeroShot.Classifier
  alias Image.ZeroShot.Test.JSON

  @model [repo: :embedded, device: :cpu]
  @examples 10

  def main([folder]) do
    names = folder |> Path.join("labels.json") |> JSON.read!() |> Enum.with_index()
    all = embed(folder, names)
    IO.puts("#{length(names)} labels, #{length(hd(all).tests)} pictures of each to be told")

    table("examples of each label", ["pictures alone", "0.75", "0.5", "0.25", "names alone"])

    for count <- [1, 2, 5, 10] do
      shares = for weight <- [1.0, 0.75, 0.5, 0.25, 0.0], do: accuracy(all, count, weight)
      row(count, shares)
    end

    calibrate(all)
  end

  defp embed(folder, names) do
    pictures =
      for {_name, number} <- names,
          path <- Path.wildcard(Path.join([folder, "#{number}", "*.png"])),
          do: {:path, path}

    embeddings = for {_path, {:ok, one}} <- ZeroShot.embed_many(pictures, @model), do: one

    for {{name, _}, own} <-
          Enum.zip(names, Enum.chunk_every(embeddings, div(length(embeddings), length(names)))) do
      {examples, tests} = Enum.split(own, @examples)
      %{name: name, examples: examples, tests: tests}
    end
  end

  defp classifier(all, count, weight) do
    labels =
      for one <- all do
        pictures = for example <- Enum.take(one.examples, count), do: {:picture, example}
        {one.name, pictures ++ ["a photo of #{one.name}"]}
      end

    ZeroShot.classifier(labels, [picture_weight: weight, max_prompts: 100_000] ++ @model)
  end

  defp accuracy(all, count, weight) do
    classifier = classifier(all, count, weight)
    asked = for one <- all, test <- one.tests, do: {test, one.name}

    right =
      asked
      |> Enum.map(&elem(&1, 0))
      |> ZeroShot.classify_many(classifier, top_k: 1)
      |> Enum.zip(asked)
      |> Enum.count(fn {{_, {:ok, [%{label: label}]}}, {_, name}} -> label == name end)

    percent(right / length(asked))
  end

  # Every third label is left out of the classifier: its pictures show none of the labels.
  defp calibrate(all) do
    {unknown, known} =
      all |> Enum.with_index() |> Enum.split_with(fn {_, i} -> rem(i, 3) == 0 end)

    known = Enum.map(known, &elem(&1, 0))

    examples =
      for(one <- known, test <- numbered(one), do: {test, one.name}) ++
        for {one, _} <- unknown, test <- numbered(one), do: {test, nil}

    # Drawn by names and numbers: embeddings differ in their last bits from machine to machine.
    {fitted, told} =
      examples
      |> Enum.sort_by(fn {{_test, drawn}, _label} -> :erlang.phash2(drawn) end)
      |> Enum.map(fn {{test, _drawn}, label} -> {test, label} end)
      |> Enum.split(1_000)

    for {title, classifier} <- [
          {"names", ZeroShot.classifier(Enum.map(known, & &1.name), @model)},
          {"names and five examples each", classifier(known, 5, 0.5)}
        ] do
      {:ok, calibrated} = Classifier.calibrate(classifier, fitted)
      %{before: before, after: later} = found = Classifier.info(calibrated).calibration
      IO.puts("\n#{title}: #{inspect(Map.take(found, [:logit_scale, :threshold, :examples]))}")

      IO.puts(
        "ECE #{round3(before.ece)} before, #{round3(later.ece)} after, accuracy #{percent(before.accuracy)} and #{percent(later.accuracy)}"
      )

      others(calibrated, told)

      table("score", [
        "pictures",
        "mean score",
        "right",
        "before: pictures",
        "mean score",
        "right"
      ])

      for {a, b} <- bins(later, before), do: row(a[:name], cells(a) ++ cells(b))
    end
  end

  defp numbered(one),
    do: Enum.with_index(one.tests, fn test, i -> {test, {one.name, i}} end)

  # Pictures that no fit has seen.
  defp others(calibrated, told) do
    results =
      told
      |> Enum.map(&elem(&1, 0))
      |> ZeroShot.classify_many(calibrated, top_k: 1)
      |> Enum.zip(told)
      |> Enum.map(fn {{_, {:ok, [best]}}, {_, label}} -> {best.score, best.label == label} end)

    gaps =
      results
      |> Enum.group_by(fn {score, _} -> min(trunc(score * 10), 9) end)
      |> Enum.map(fn {_, bin} ->
        abs(Enum.sum(Enum.map(bin, &elem(&1, 0))) - Enum.count(bin, &elem(&1, 1)))
      end)

    IO.puts("on #{length(told)} other pictures: ECE #{round3(Enum.sum(gaps) / length(told))}")
  end

  defp bins(later, before) do
    for i <- 0..9 do
      {bin(later, i), bin(before, i)}
    end
  end

  defp bin(table, i) do
    found = Enum.find(table.bins, %{count: 0}, &(round(&1.from * 10) == i))
    Map.put(found, :name, "#{i / 10} to #{(i + 1) / 10}")
  end

  defp cells(%{count: 0}), do: [0, "", ""]
  defp cells(bin), do: [bin.count, round3(bin.confidence), percent(bin.accuracy)]

  defp round3(number), do: Float.round(number, 3)
  defp percent(share), do: "#{Float.round(100 * share, 1)} %"

  defp table(title, columns) do
    IO.puts("")
    row(title, columns)
    row("---", Enum.map(columns, fn _ -> "---" end))
  end

  defp row(title, columns), do: IO.puts("| " <> Enum.join([title | columns], " | ") <> " |")
end

Bench.FewShot.main(System.argv())
