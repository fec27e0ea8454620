# Says which of your labels fits a picture. Without labels, suggests some.
#
#     elixir examples/classify.exs
#     elixir examples/classify.exs photo.jpg "a cat" "a dog" "a pizza"
#     elixir examples/classify.exs photo.jpg
#
# The embedded model needs no network, but knows only emoji. For photographs, remove `repo: :embedded`:
# OpenAI's ViT-B/32 is then downloaded once (605 MB).

Mix.install([{:image_zero_shot, path: Path.expand("..", __DIR__)}])

opts = [repo: :embedded]
sample = Application.app_dir(:image_zero_shot, "priv/samples/dog.jpg")

answer =
  case System.argv() do
    [] -> Image.ZeroShot.try_classify({:path, sample}, ["a cat", "a dog", "a pizza"], opts)
    [path] -> Image.ZeroShot.try_suggest({:path, path}, opts)
    [path | labels] -> Image.ZeroShot.try_classify({:path, path}, labels, opts)
  end

case answer do
  {:ok, results} ->
    for %{label: label, score: score} <- results do
      percent = :erlang.float_to_binary(score * 100, decimals: 1)
      IO.puts("#{String.pad_leading(percent, 5)} %  #{label}")
    end

  {:error, error} ->
    IO.puts(:stderr, Exception.message(error))
    exit({:shutdown, 1})
end
