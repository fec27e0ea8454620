# Finds the pictures of a folder that fit a text.
#
#     elixir examples/search.exs
#     elixir examples/search.exs photos "a red car"
#
# The embedded model needs no network, but knows only emoji. For photographs, remove `repo: :embedded`:
# OpenAI's ViT-B/32 is then downloaded once (605 MB). `mix zero_shot.search` also keeps the index in a
# file.

Mix.install([{:image_zero_shot, path: Path.expand("..", __DIR__)}])

alias Image.ZeroShot.Index

opts = [repo: :embedded]

{folder, text} =
  case System.argv() do
    [] -> {Application.app_dir(:image_zero_shot, "priv/samples"), "a pizza"}
    [folder, text] -> {folder, text}
    other -> raise ArgumentError, "expected a folder and a text, got: #{inspect(other)}"
  end

index = Index.new()

pictures =
  for path <- Path.wildcard(Path.join(folder, "**/*.{jpg,jpeg,png,webp}")), do: {:path, path}

for {{:path, path}, result} <- Image.ZeroShot.embed_many(pictures, opts) do
  case result do
    {:ok, embedding} -> :ok = Index.put(index, path, embedding)
    {:error, error} -> IO.puts(:stderr, "#{path}: #{Exception.message(error)}")
  end
end

if Index.size(index) == 0 do
  IO.puts(:stderr, "no pictures in #{folder}")
  exit({:shutdown, 1})
end

{:ok, found} = Index.nearest(index, {:text, text}, [k: 5] ++ opts)

for %{id: path, score: score} <- found do
  cosine = :erlang.float_to_binary(score, decimals: 2)
  IO.puts("#{String.pad_leading(cosine, 5)}  #{Path.relative_to(path, folder)}")
end
