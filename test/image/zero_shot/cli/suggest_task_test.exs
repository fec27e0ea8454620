defmodule Image.ZeroShot.SuggestTaskTest do
  # `mix zero_shot.classify --suggest`.
  # The standard error belongs to the whole VM, and so does the configuration.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Test.Captured

  alias Image.ZeroShot
  alias Image.ZeroShot.CLI.Console
  alias Image.ZeroShot.Test.JSON

  @moduletag :tmp_dir

  @dog "priv/samples/dog.jpg"
  @cat "priv/samples/cat.png"
  @flags ["--suggest", "--repo", "embedded", "--device", "cpu"]
  @opts [repo: :embedded, device: :cpu]

  # Compiled vocabularies belong to the test.
  setup %{tmp_dir: dir} do
    Application.put_env(:image_zero_shot, :cache_dir, dir)
    on_exit(fn -> Application.delete_env(:image_zero_shot, :cache_dir) end)
  end

  defp suggest(argv, output \\ []), do: captured(fn -> Console.run(argv ++ @flags, output) end)

  defp words!(dir, lines) do
    path = Path.join(dir, "words.txt")
    File.write!(path, Enum.join(lines, "\n"))
    path
  end

  defp configure(name, value) do
    Application.put_env(:image_zero_shot, name, value)
    on_exit(fn -> Application.delete_env(:image_zero_shot, name) end)
  end

  # The labels and the scores of a line of JSON.
  defp suggested(line),
    do: for(%{"label" => label, "score" => score} <- line["results"], do: {label, score})

  describe "a table" do
    test "has a line for each picture, aligned, and its three best suggestions" do
      assert {:ok, shown, ""} = suggest([@dog, @cat])
      assert [dog, cat, ""] = String.split(shown, "\n")
      suggestions = "( +\\d+\\.\\d %  [^%]+?){2}"
      assert dog =~ ~r/^priv\/samples\/dog\.jpg  +\d+\.\d %  dog#{suggestions}$/
      assert cat =~ ~r/^priv\/samples\/cat\.png  +\d+\.\d %  cat#{suggestions}$/
      columns = for line <- [dog, cat], do: Regex.scan(~r/%/, line, return: :index)
      assert [[[{_, 1}], [_], [_]] = same, same] = columns
    end

    test "takes --top and --min-score" do
      assert {:ok, shown, ""} = suggest([@dog, "--top", "7"])
      assert length(Regex.scan(~r/%/, shown)) == 7
      assert {:ok, shown, ""} = suggest([@dog, "--top", "7", "--min-score", "0.5"])
      assert shown =~ ~r/^priv\/samples\/dog\.jpg  +\d+\.\d %  dog\n$/
      assert {:ok, @dog <> "  -\n", ""} = suggest([@dog, "--min-score", "1"])
    end
  end

  describe "json" do
    test "has the ten labels and the scores that suggest/2 returns" do
      assert {:ok, shown, ""} = suggest([@dog, @cat, "--format", "json"])
      lines = shown |> String.split("\n", trim: true) |> Enum.map(&JSON.parse!/1)
      assert Enum.map(lines, & &1["path"]) == [@dog, @cat]

      for line <- lines do
        expected = ZeroShot.suggest({:path, line["path"]}, @opts)
        assert length(expected) == 10

        for {{label, score}, one} <- Enum.zip(suggested(line), expected) do
          assert label == one.label
          assert_in_delta score, one.score, 1.0e-5
        end
      end
    end

    test "has as many as --top says, whatever the configuration says" do
      configure(:top_k, 1)
      assert {:ok, shown, ""} = suggest([@dog, "--format", "json"])
      assert length(suggested(JSON.parse!(shown))) == 10
      assert {:ok, shown, ""} = suggest([@dog, "--format", "json", "--top", "2"])
      assert length(suggested(JSON.parse!(shown))) == 2
      assert {:ok, shown, ""} = suggest([@dog, "--format", "json", "--top", "100000"])
      assert length(suggested(JSON.parse!(shown))) > 1_000
    end
  end

  test "csv has a line for each suggestion" do
    assert {:ok, shown, ""} = suggest([@dog, "--format", "csv"])

    assert ["path,label,score,error", @dog <> ",dog," <> _ | rest] =
             String.split(shown, "\r\n", trim: true)

    assert length(rest) == 9
  end

  test "the page has five suggestions of each picture", %{tmp_dir: dir} do
    target = Path.join(dir, "page.html")
    assert {:ok, table, ""} = suggest([@dog, @cat, "--html", target])
    assert length(String.split(table, "\n", trim: true)) == 2
    html = File.read!(target)
    assert html =~ "<title>2 pictures: suggested labels</title>"

    for {article, label} <- Enum.zip(Regex.scan(~r{<article>.*</article>}, html), ["dog", "cat"]) do
      labels = Regex.scan(~r/data-label="([^"]*)"/, hd(article), capture: :all_but_first)
      assert [[^label], _, _, _, _] = labels
    end
  end

  describe "--vocabulary" do
    test "takes a list of yours", %{tmp_dir: dir} do
      file = words!(dir, ["\uFEFFcat", "", "  dog \r", "dogs", "pizza, hot"])
      assert {:ok, shown, ""} = suggest([@dog, "--vocabulary", file, "--format", "json"])
      # Labels that mean the same are one.
      assert [{dog, score} | others] = suggested(JSON.parse!(shown))
      assert dog in ["dog", "dogs"] and score > 0.9
      assert others |> Enum.map(&elem(&1, 0)) |> Enum.sort() == ["cat", "pizza, hot"]
    end

    test "is kept on disk for the next run", %{tmp_dir: dir} do
      # Words that no other test has compiled.
      file = words!(dir, ["kept on disk", "dog"])
      assert {:ok, _, ""} = suggest([@dog, "--vocabulary", file])
      assert [_kept] = Path.wildcard(Path.join(dir, "vocabularies/*"))
    end

    test "has the prompts of --template", %{tmp_dir: dir} do
      file = words!(dir, ["cat", "dog"])
      template = "a drawing of one {label}"
      argv = [@dog, "--vocabulary", file, "--format", "json", "--template", template]
      assert {:ok, shown, ""} = suggest(argv)
      opts = [vocabulary: ["cat", "dog"], template: template] ++ @opts
      [one, other] = ZeroShot.suggest({:path, @dog}, opts)
      assert [{"dog", score}, {"cat", least}] = suggested(JSON.parse!(shown))
      assert_in_delta score, one.score, 1.0e-5
      assert_in_delta least, other.score, 1.0e-5
    end

    test "that cannot be used is one error, before any picture is read", %{tmp_dir: dir} do
      missing = Path.join(dir, "missing.txt")

      for {vocabulary, message} <- [
            {missing, ~s(vocabulary #{inspect(missing)}: no such file)},
            {dir, ~s(vocabulary #{inspect(dir)}: is not a regular file \(directory\))},
            {words!(dir, ["", " "]), "expected at least one label, got none"},
            {"", ~s(expected --vocabulary to be the name of a file, in UTF-8, got: "")},
            {<<"w", 0xE9>>,
             ~S(expected --vocabulary to be the name of a file, in UTF-8, got: <<119, 233>>)}
          ] do
        argv = ["gone.jpg", "no/*.jpg", "--vocabulary", vocabulary]
        assert {{:error, error}, "", ""} = suggest(argv)
        assert error =~ message
      end

      file = words!(dir, ["dog", <<255>>])
      assert {{:error, error}, "", ""} = suggest([@dog, "--vocabulary", file])
      assert error == "vocabulary #{inspect(file)}: label at index 1 is not valid UTF-8: <<255>>"
    end
  end

  test "a picture that fails is reported, and the rest goes on" do
    assert {{:error, message}, shown, told} = suggest(["gone.jpg", @dog, "--top", "1"])
    assert message == "1 of 2 could not be classified; the reasons are above"
    assert shown =~ ~r/^priv\/samples\/dog\.jpg  +\d+\.\d %  dog\n$/
    assert told == ~s("gone.jpg": no such file\n)
  end

  test "a model that cannot be loaded is one error", %{tmp_dir: dir} do
    test = self()
    model = Path.join(dir, "no-model")
    capture_io(fn -> send(test, Console.run([@dog, @cat, "--suggest", "--repo", model])) end)
    assert_received {:error, message}
    assert message =~ model and not (message =~ "\n")
  end

  test "the bar makes room for every row" do
    assert {:ok, shown, ""} = suggest([@dog, "--top", "1"], columns: 60, beside: :stdio)
    assert shown =~ ~r/\r\e\[Kpriv\/samples\/dog\.jpg  +\d+\.\d %  dog\n\r100 %/
  end

  describe "flags that do not go together" do
    for {flags, message} <- [
          {["--suggest", "--labels", "a dog"],
           "expected no --labels together with --suggest, which ranks a vocabulary; leave out one " <>
             "of them, or write the labels to a file for --vocabulary FILE"},
          {["--suggest", "--labels-file", "gone.txt"],
           "expected no --labels-file together with --suggest, which ranks a vocabulary; leave out " <>
             "one of them, or give the file as --vocabulary FILE"},
          {["--suggest", "--vocabulary", "words.txt", "--labels", "a dog"],
           "expected no --labels together with --suggest, which ranks a vocabulary; leave out one " <>
             "of them, or write the labels to a file for --vocabulary FILE"},
          {["--suggest", "--multi-label"],
           "expected no --multi-label together with --suggest, whose scores are shares of the " <>
             "whole vocabulary; leave it out, or give labels instead of --suggest"},
          {["--vocabulary", "words.txt"],
           "expected --suggest together with --vocabulary; to classify with the lines of a file, " <>
             "use --labels-file FILE"},
          {["--vocabulary", "words.txt", "--labels", "a dog"],
           "expected --suggest together with --vocabulary; to classify with the lines of a file, " <>
             "use --labels-file FILE"},
          {["--no-suggest", "--vocabulary", "words.txt", "--labels-file", "gone.txt"],
           "expected --suggest together with --vocabulary; to classify with the lines of a file, " <>
             "use --labels-file FILE"},
          {["--suggest=yes"], "expected no value for --suggest, got: yes"},
          {["--suggest", "--vocabulary"], "expected a value after --vocabulary"}
        ] do
      @argv ["x.jpg" | flags]
      @message message

      test "are an error: #{Enum.join(flags, " ")}" do
        assert Console.run(@argv) == {:error, @message}
      end
    end

    test "are not those that say nothing" do
      assert {:ok, shown, ""} = suggest([@dog, "--no-multi-label", "--top", "1"])
      assert shown =~ "dog"
    end
  end

  test "a mistake in the configuration is an error, and its labels have to be text" do
    configure(:vocabulary, ["cat", {:dog, ["a dog"]}])
    assert {{:error, message}, "", ""} = suggest([@dog])
    assert message =~ ~s(expected labels of the configured :vocabulary to be strings, got: :dog)
    assert message =~ "--vocabulary FILE"

    configure(:vocabulary, :nouns)
    assert {{:error, message}, "", ""} = suggest([@dog])

    assert message =~
             "expected :vocabulary in the config of image_zero_shot to be a list of labels"
  end
end
