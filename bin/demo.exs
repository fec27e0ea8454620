defmodule Demo do
  @moduledoc false
  # Classifies priv/samples with the embedded model; run by bin/demo.

  alias Image.ZeroShot

  @repo [repo: :embedded]
  @shown 4
  @bar_width 40
  @eighths ~w(▏ ▎ ▍ ▌ ▋ ▊ ▉)

  def run do
    samples = Application.app_dir(:image_zero_shot, "priv/samples")
    labels = samples |> Path.join("labels.txt") |> File.read!() |> String.split("\n", trim: true)
    pictures = samples |> Path.join("*.{jpg,png,webp}") |> Path.wildcard()

    IO.puts("""

    #{length(pictures)} pictures, each against the same #{length(labels)} labels, with the model in this repository.
    It was trained on emoji and knows nothing else; larger models know the world.

    Labels: #{labels |> Enum.join(", ") |> wrap(72) |> String.replace("\n", "\n        ")}
    """)

    # The first call loads the model.
    ZeroShot.classify({:path, hd(pictures)}, labels, @repo)
    {time, _} = :timer.tc(fn -> Enum.each(pictures, &show(&1, labels)) end)
    compare(samples)
    IO.puts("#{div(time, 1000 * length(pictures))} ms a picture, on this machine's CPU.\n")
    next()
  end

  defp show(picture, labels) do
    IO.puts(bright(Path.basename(picture)))

    {:path, picture}
    |> ZeroShot.classify(labels, @repo)
    |> Enum.take(@shown)
    |> Enum.each(&IO.puts(line(&1)))

    IO.puts("")
  end

  defp line(%{label: label, score: score}) do
    percent = :erlang.float_to_binary(score * 100, decimals: 1)
    "  #{String.pad_trailing(label, 12)} #{bar(score)} #{String.pad_leading(percent, 5)} %"
  end

  defp bar(score) do
    eighths = round(score * @bar_width * 8)

    text =
      if utf8?(),
        do: String.duplicate("█", div(eighths, 8)) <> eighth(rem(eighths, 8)),
        else: String.duplicate("#", div(eighths + 4, 8))

    String.pad_trailing(text, @bar_width)
  end

  defp eighth(0), do: ""
  defp eighth(count), do: Enum.at(@eighths, count - 1)

  defp compare(samples) do
    IO.puts(bright("How alike are two pictures? (1: the same)"))

    for {a, b} <- [{"cat.png", "again/cat.png"}, {"cat.png", "rocket.png"}] do
      [one, two] = for file <- [a, b], do: {:path, Path.join(samples, file)}
      value = :erlang.float_to_binary(ZeroShot.similarity(one, two, @repo), decimals: 2)
      IO.puts("  #{String.pad_trailing("#{a} and #{b}", 28)} #{String.pad_leading(value, 5)}")
    end

    IO.puts("")
  end

  defp next do
    IO.puts("""
    Next: start `iex -S mix` and ask for yourself:

        picture = {:path, "priv/samples/cat.png"}
        Image.ZeroShot.label(picture, ["dog", "cat"], repo: :embedded)

    README.md has the rest: pictures of your own, models that know the world.
    """)
  end

  defp wrap(text, width) do
    text
    |> String.split(" ")
    |> Enum.reduce([""], fn word, [line | lines] ->
      if String.length(line) + String.length(word) < width,
        do: [String.trim_leading(line <> " " <> word) | lines],
        else: [word, line | lines]
    end)
    |> Enum.reverse()
    |> Enum.join("\n")
  end

  defp bright(text), do: IO.ANSI.format([:bright, text])

  defp utf8? do
    locales = for name <- ~w(LC_ALL LC_CTYPE LANG), do: System.get_env(name, "")
    Enum.find(locales, "", &(&1 != "")) =~ ~r/utf-?8/i
  end
end

Demo.run()
