# What fewer digits cost and gain on pictures of your own: how often the first label is that of f32, and
# how near the embeddings are.
#
#     mix run bench/precision.exs FOLDER [MODEL]
#
# FOLDER has a folder for each label, named like it, with pictures of it; MODEL is a directory or `org/name`,
# the embedded model by default. Folders that `training/make_few_shot.py` writes do too: their pictures are
# those that the embedded model has never seen. Times are of the whole folder, so they include
# decoding; only their ratio means anything.

Code.ensure_loaded?(Image.ZeroShot.Test.JSON) || Code.require_file("test/support/json.ex")

defmodule Bench.Precision do
  @moduledoc false

  alias Image.ZeroShot
  alias Image.ZeroShot.{Embedding, Error}
  alias Image.ZeroShot.Test.JSON

  @precisions [:f32, :bf16, :f16, :int8]
  @formats ~w(.jpg .jpeg .png .webp .gif .bmp .tif .tiff)

  def main([folder]), do: main([folder, "embedded"])

  def main([folder, model]) do
    {labels, pictures} = labelled(folder)
    IO.puts("#{model}: #{length(labels)} labels, #{length(pictures)} pictures")

    measured =
      for precision <- @precisions, do: {precision, measure(precision, model, labels, pictures)}

    {:f32, {:ok, reference}} = hd(measured)

    IO.puts(
      "| precision | first label as f32 | right | least and median cosine of pictures | of prompts " <>
        "| seconds | memory, MB |\n| --- | --- | --- | --- | --- | --- | --- |"
    )

    for {precision, result} <- measured, do: row(precision, result, reference, pictures)
  end

  def main(_), do: Mix.raise("usage: mix run bench/precision.exs FOLDER [MODEL]")

  defp labelled(folder) do
    names =
      case File.exists?(Path.join(folder, "labels.json")) do
        true ->
          folder |> Path.join("labels.json") |> JSON.read!() |> Enum.with_index(&{"#{&2}", &1})

        false ->
          for name <- Enum.sort(File.ls!(folder)),
              File.dir?(Path.join(folder, name)),
              do: {name, name}
      end

    pictures =
      for {directory, label} <- names,
          file <- folder |> Path.join(directory) |> File.ls!() |> Enum.sort(),
          String.downcase(Path.extname(file)) in @formats,
          do: {Path.join([folder, directory, file]), label}

    {Enum.map(names, &elem(&1, 1)), pictures}
  end

  defp measure(precision, model, labels, pictures) do
    options = [precision: precision] ++ repo(model)

    with {:ok, classifier} <- ZeroShot.try_classifier(labels, options),
         {:ok, texts} <- ZeroShot.try_embed_text(Enum.map(labels, &"a photo of #{&1}"), options) do
      paths = for {path, _label} <- pictures, do: {:path, path}
      # Everything is loaded, and the first kernels are made.
      _ = paths |> Enum.take(16) |> ZeroShot.embed_many(options) |> Enum.count()
      start = System.monotonic_time(:millisecond)

      embeddings =
        for {_path, {:ok, embedding}} <- ZeroShot.embed_many(paths, options), do: embedding

      seconds = (System.monotonic_time(:millisecond) - start) / 1_000
      {:ok, %{memory: memory}} = ZeroShot.info(options)
      firsts = for one <- embeddings, do: ZeroShot.label(one, classifier)
      ZeroShot.unload(options)

      {:ok,
       %{texts: texts, pictures: embeddings, firsts: firsts, seconds: seconds, memory: memory}}
    end
  end

  defp repo("embedded"), do: [repo: :embedded]
  defp repo(model), do: [repo: if(File.dir?(model), do: {:local, model}, else: model)]

  defp row(precision, {:error, %Error{} = error}, _reference, _pictures),
    do: IO.puts("| #{precision} | #{Exception.message(error)} | | | | | |")

  defp row(precision, {:ok, result}, reference, pictures) do
    same = share(Enum.zip(result.firsts, reference.firsts))
    right = share(Enum.zip(result.firsts, Enum.map(pictures, &elem(&1, 1))))
    photos = cosines(result.pictures, reference.pictures)
    prompts = cosines(result.texts, reference.texts)

    numbers = [
      same,
      right,
      photos,
      prompts,
      Float.round(result.seconds, 1),
      div(result.memory, 1_000_000)
    ]

    IO.puts("| #{precision} | #{Enum.join(numbers, " | ")} |")
  end

  defp share(pairs) do
    equal = Enum.count(pairs, fn {a, b} -> a == b end)
    "#{Float.round(100 * equal / length(pairs), 2)} %"
  end

  defp cosines(some, others) do
    sorted = Enum.zip_with(some, others, &Embedding.similarity/2) |> Enum.sort()
    median = Enum.at(sorted, div(length(sorted), 2))
    "#{Float.round(hd(sorted), 5)}, #{Float.round(median, 5)}"
  end
end

Bench.Precision.main(System.argv())
