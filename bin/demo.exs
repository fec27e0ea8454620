defmodule Demo do
  @moduledoc false
  # Classifies priv/samples with the embedded model, and explains; run by bin/demo.

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
    explain(Path.join(samples, "together/dog-and-pizza.png"), ["dog", "pizza"])
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
    "  #{String.pad_trailing(label, 12)} #{bar(score)} #{String.pad_leading(percent(score), 5)} %"
  end

  defp percent(score), do: :erlang.float_to_binary(score * 100, decimals: 1)

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

  # Two labels on one picture: which part of it speaks for each.
  defp explain(picture, labels) do
    IO.puts(bright("Which part of #{Path.basename(picture)} speaks for each label?"))
    results = ZeroShot.explain({:path, picture}, labels, [format: :png] ++ @repo)
    titles = for %{label: label, score: score} <- results, do: "#{label} #{percent(score)} %"

    if IO.ANSI.enabled?() and utf8?() do
      IO.puts("Orange speaks for it, blue against it.\n")
      drawn = ZeroShot.explain({:path, picture}, labels, [format: :ansi] ++ @repo)
      beside(titles, Enum.map(drawn, &String.split(&1.ansi, "\n", trim: true)), 38)
    else
      IO.puts("What each patch adds to the cosine with it, less what it adds for the other.\n")
      rows = for %{contrast: rows} <- results, do: Enum.map(rows, &row/1)
      beside(titles, rows, 28)
    end

    for %{label: label, png: png} <- results do
      path = Path.join(Mix.Project.build_path(), "explained-#{label}.png")
      File.write!(path, png)
      IO.puts("  as a picture: #{Path.relative_to_cwd(path)}")
    end

    IO.puts("")
  end

  # The lines of two drawings of one width, next to each other.
  defp beside(titles, drawings, width) do
    titles = Enum.map_join(titles, "  ", &String.pad_trailing(&1, width))
    IO.puts("  " <> String.trim_trailing(titles))
    for lines <- Enum.zip_with(drawings, & &1), do: IO.puts("  " <> Enum.join(lines, "  "))
    IO.puts("")
  end

  defp row(patches), do: Enum.map_join(patches, " ", &signed/1)

  defp signed(number) do
    text = :erlang.float_to_binary(abs(number), decimals: 2)
    sign = if text == "0.00", do: "", else: if(number < 0, do: "-", else: "+")
    String.pad_leading(sign <> text, 6)
  end

  defp next do
    IO.puts("""
    Next: start `iex -S mix` and ask for yourself:

        picture = {:path, "priv/samples/cat.png"}
        Image.ZeroShot.label(picture, ["dog", "cat"], repo: :embedded)

    In a browser, with pictures and labels of your own:

        mix zero_shot.demo --repo embedded

    README.md has the rest, such as models that know the world.
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
