# An `Nx.Serving` in front of this library, for applications that call `Nx.Serving.batched_run/2` and
# read `:predictions`, as those on Bumblebee do.
#
#     elixir examples/nx_serving.exs
#     elixir examples/nx_serving.exs photo.jpg "a cat" "a dog"
#
# `Image.ZeroShot` decodes and embeds the pictures, and batches those of all callers. Nx compares them
# with the labels. The embedded model needs no network, but knows only emoji.

Mix.install([
  {:image_zero_shot, path: Path.expand("..", __DIR__)},
  {:nx, "~> 0.9"}
])

defmodule MyApp.Labels do
  alias Image.ZeroShot.Embedding

  # A serving that takes a picture or a list of pictures, in any form that `Image.ZeroShot` takes.
  def serving(labels, opts) do
    {:ok, %{logit_scale: scale}} = Image.ZeroShot.info(opts)
    prompts = labels |> Enum.map(&"a photo of #{&1}") |> Image.ZeroShot.embed_text(opts)
    prompts = prompts |> tensor() |> Nx.transpose()

    fn defn_options ->
      Nx.Defn.jit(&softmax(Nx.multiply(Nx.dot(&1, prompts), scale)), defn_options)
    end
    |> Nx.Serving.new()
    |> Nx.Serving.client_preprocessing(fn pictures ->
      embeddings = pictures |> List.wrap() |> Image.ZeroShot.embed(opts)
      {Nx.Batch.concatenate([tensor(embeddings)]), is_list(pictures)}
    end)
    |> Nx.Serving.client_postprocessing(fn {scores, _metadata}, several? ->
      answers = scores |> Nx.to_list() |> Enum.map(&predictions(labels, &1))
      if several?, do: answers, else: hd(answers)
    end)
  end

  defp tensor(embeddings), do: embeddings |> Enum.map(&Embedding.to_nx/1) |> Nx.stack()

  defp softmax(logits) do
    above = logits |> Nx.subtract(Nx.reduce_max(logits, axes: [1], keep_axes: true)) |> Nx.exp()
    Nx.divide(above, Nx.sum(above, axes: [1], keep_axes: true))
  end

  defp predictions(labels, scores) do
    rows = Enum.zip_with(labels, scores, &%{label: &1, score: &2})
    %{predictions: Enum.sort_by(rows, & &1.score, :desc)}
  end
end

{picture, labels} =
  case System.argv() do
    [path | [_ | _] = labels] ->
      {{:path, path}, labels}

    _ ->
      sample = Application.app_dir(:image_zero_shot, "priv/samples/dog.jpg")
      {{:path, sample}, ["a cat", "a dog", "a pizza"]}
  end

# In an application, both are children of your supervisor.
{:ok, _pid} = Image.ZeroShot.Serving.start_link(name: MyApp.Clip, repo: :embedded)

{:ok, _pid} =
  Nx.Serving.start_link(
    serving: MyApp.Labels.serving(labels, serving: MyApp.Clip),
    name: MyApp.Labels,
    batch_size: 16,
    batch_timeout: 5
  )

%{predictions: predictions} = Nx.Serving.batched_run(MyApp.Labels, picture)

for %{label: label, score: score} <- predictions do
  percent = :erlang.float_to_binary(score * 100, decimals: 1)
  IO.puts("#{String.pad_leading(percent, 5)} %  #{label}")
end
