defmodule Image.ZeroShot.SearchTaskTest do
  # The standard error belongs to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias Image.ZeroShot.CLI.Search
  alias Image.ZeroShot.Index
  alias Image.ZeroShot.Test.JSON

  @moduletag :tmp_dir

  @flags ["--repo", "embedded", "--device", "cpu"]

  defp search(argv, output \\ []) do
    test = self()

    told =
      capture_io(:stderr, fn ->
        shown = capture_io(fn -> send(test, {:result, Search.run(argv ++ @flags, output)}) end)
        send(test, {:shown, shown})
      end)

    assert_received {:result, result}
    assert_received {:shown, shown}
    {result, shown, told}
  end

  defp picture!(dir, name, sample) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.cp!(Path.join("priv/samples", sample), path)
    path
  end

  defp album!(dir) do
    for {name, sample} <- [
          {"dog.jpg", "dog.jpg"},
          {"more/cat.png", "cat.png"},
          {"more/pizza.webp", "pizza.webp"},
          {"copy of dog.jpg", "dog.jpg"}
        ],
        do: picture!(dir, name, sample)

    dir
  end

  defp names(shown),
    do: ~r/^ *-?\d\.\d{4}  (.*)$/m |> Regex.scan(shown, capture: :all_but_first) |> Enum.concat()

  test "finds by a text, and embeds each picture once", %{tmp_dir: dir} do
    album!(dir)
    assert {:ok, shown, told} = search([dir, "pizza", "--top", "2"])
    assert [first, _second] = names(shown)
    assert first == Path.join(dir, "more/pizza.webp")
    assert told == "embedding 4 new pictures\n"
    assert {:ok, ^shown, ""} = search([dir, "pizza", "--top", "2"])
    assert File.regular?(Path.join(dir, ".zero_shot.index"))
  end

  test "notices what is new, changed and gone", %{tmp_dir: dir} do
    album!(dir)
    assert {:ok, _shown, _told} = search([dir, "dog"])
    File.rm!(Path.join(dir, "copy of dog.jpg"))
    picture!(dir, "dog.jpg", "pizza.webp")
    picture!(dir, "new.png", "cat.png")
    assert {:ok, shown, told} = search([dir, "pizza"])
    assert told == "embedding 2 new pictures\n"

    assert Enum.sort(names(shown)) ==
             Enum.map(~w(dog.jpg more/cat.png more/pizza.webp new.png), &Path.join(dir, &1))

    assert shown |> names() |> Enum.take(2) |> Enum.sort() ==
             Enum.map(~w(dog.jpg more/pizza.webp), &Path.join(dir, &1))

    File.touch!(Path.join(dir, "new.png"), 1_000_000_000)
    assert {:ok, _shown, "embedding 1 new pictures\n"} = search([dir, "pizza"])
  end

  test "finds what is like a picture, as JSON", %{tmp_dir: dir} do
    album!(dir)

    assert {:ok, shown, _told} =
             search([
               dir,
               "--like",
               "priv/samples/dog.jpg",
               "--format",
               "json",
               "--min-score",
               "0.99"
             ])

    rows = shown |> String.split("\n", trim: true) |> Enum.map(&JSON.parse!/1)

    assert Enum.map(rows, & &1["path"]) ==
             Enum.map(["copy of dog.jpg", "dog.jpg"], &Path.join(dir, &1))

    for row <- rows, do: assert_in_delta(row["score"], 1.0, 1.0e-3)
  end

  test "finds groups of duplicates as CSV", %{tmp_dir: dir} do
    album!(dir)
    picture!(dir, "x/cat again.png", "cat.png")

    assert {:ok, shown, _told} =
             search([dir, "--duplicates", "--format", "csv", "--min-score", "0.999"])

    assert ["group,path,score" | rows] = String.split(shown, "\r\n", trim: true)

    assert Enum.map(rows, &(&1 |> String.split(",") |> Enum.take(2))) == [
             ["1", Path.join(dir, "copy of dog.jpg")],
             ["1", Path.join(dir, "dog.jpg")],
             ["2", Path.join(dir, "more/cat.png")],
             ["2", Path.join(dir, "x/cat again.png")]
           ]

    assert {:ok, table, ""} = search([dir, "--duplicates", "--min-score", "0.999"])
    assert length(String.split(table, "\n\n", trim: true)) == 2
  end

  test "a damaged index is built again, with a sentence", %{tmp_dir: dir} do
    album!(dir)
    index = Path.join(dir, ".zero_shot.index")
    File.write!(index, "nonsense")
    assert {:ok, shown, told} = search([dir, "dog"])

    assert told =~
             ~r/^"#{Regex.escape(index)}": the file is not an index, or it is damaged: .*: building it again\n/

    assert length(names(shown)) == 4
    assert {:ok, ^shown, ""} = search([dir, "dog"])
  end

  test "an index of another model is built again, with a sentence", %{tmp_dir: dir} do
    album!(dir)
    index = Index.new()

    {:ok, embedding} =
      Image.ZeroShot.Embedding.from_binary(<<1.0::float-32-little>>, model: "other")

    :ok = Index.put(index, {"dog.jpg", 1, 1}, embedding)
    :ok = Index.save(index, Path.join(dir, ".zero_shot.index"))
    assert {:ok, _shown, told} = search([dir, "dog"])
    assert told =~ "is of another model: building it again\nembedding 4 new pictures\n"
  end

  test "where the index cannot be kept is said", %{tmp_dir: dir} do
    album!(dir)
    File.mkdir!(Path.join(dir, ".zero_shot.index"))
    cache = Path.join(dir, "cache")
    before = System.get_env("XDG_CACHE_HOME")
    System.put_env("XDG_CACHE_HOME", cache)

    on_exit(fn ->
      if before,
        do: System.put_env("XDG_CACHE_HOME", before),
        else: System.delete_env("XDG_CACHE_HOME")
    end)

    assert {:ok, shown, told} = search([dir, "dog"])

    assert told =~
             ~r/the index cannot be kept: .*; it goes to "#{Regex.escape(cache)}\/image_zero_shot\/search\/[0-9a-f]{32}.index" instead\n/

    assert {:ok, ^shown, ""} = search([dir, "dog"])
  end

  test "a picture that cannot be read is reported and tried again", %{tmp_dir: dir} do
    album!(dir)
    File.write!(Path.join(dir, "bad.jpg"), "no picture")

    for _ <- 1..2 do
      assert {:ok, shown, told} = search([dir, "dog"])
      assert told =~ "bad.jpg\": "
      assert length(names(shown)) == 4
    end
  end

  test "writes a page that needs nothing else", %{tmp_dir: dir} do
    folder = Path.join(dir, "a")
    album!(folder)
    picture!(folder, "<b> & \"q\" 'é'.jpg", "dog.jpg")
    page = Path.join(dir, "page.html")
    assert {:ok, _shown, _told} = search([folder, "<dog> & cat", "--html", page])
    html = File.read!(page)
    assert html =~ "<title>&lt;dog&gt; &amp; cat in "
    assert html =~ "&lt;b&gt; &amp; &quot;q&quot; 'é'.jpg"
    refute html =~ ~r/<b> &|https?:\/\/|@import|url\(http/

    jpegs =
      Regex.scan(~r/data:image\/jpeg;base64,([A-Za-z0-9+\/=]+)/, html, capture: :all_but_first)

    assert length(jpegs) == 5

    for [base64] <- jpegs do
      assert {:ok, _cosine} =
               base64 |> Base.decode64!() |> Image.ZeroShot.try_embed(repo: :embedded)
    end

    assert {:ok, _shown, _told} = search([folder, "--duplicates", "--html", page])
    assert File.read!(page) =~ "data-label=\"group 1\""

    assert {:error, message} =
             search([folder, "dog", "--html", Path.join(dir, "no/page.html")]) |> elem(0)

    assert message =~ "the page cannot be written: no such file or directory"
  end

  test "names that are not text are found as well", %{tmp_dir: dir} do
    picture!(dir, <<"i", 0xE9, ".jpg">>, "dog.jpg")

    assert {:ok, shown, _told} =
             search([dir, "dog", "--format", "json", "--html", Path.join(dir, "p.html")])

    assert Base.decode64!(JSON.parse!(String.trim(shown))["path_base64"]) ==
             Path.join(dir, <<"i", 0xE9, ".jpg">>)

    assert File.read!(Path.join(dir, "p.html")) =~ "i%E9.jpg\""
  end

  test "shows the progress on a terminal", %{tmp_dir: dir} do
    album!(dir)
    assert {:ok, _shown, told} = search([dir, "dog"], columns: 80)
    assert told =~ "25 % [######..................]"
    assert told =~ "100 % ["
    assert String.ends_with?(told, "\r\e[K")
  end

  test "mistakes on the command line are errors in words", %{tmp_dir: dir} do
    error = fn argv -> argv |> search() |> elem(0) |> elem(1) end

    assert error.([]) =~
             ~s(expected a folder, such as mix zero_shot.search photos "a red car"; the flags are --like,)

    assert error.([dir]) =~ "expected one of a text, --like and --duplicates"
    assert error.([dir, "dog", "--duplicates"]) =~ "expected one of a text"
    assert error.([dir, "a", "dog"]) =~ "expected the text as one word"
    assert error.([dir, "dog", "--top", "0"]) =~ "expected --top to be a number from 1"

    assert error.([dir, "dog", "--min-score", "2"]) =~
             "expected --min-score to be a number from -1 to 1"

    assert error.([dir, "dog", "--formats", "x"]) =~ "unknown flag --formats; the flags are"
    assert error.([dir, "dog", "--format", "x"]) =~ "expected --format to be table, json or csv"
    assert error.(["none", "dog"]) =~ ~s(expected a folder with pictures, got: "none")
    assert error.([dir, "--like", "no.jpg"]) =~ ~s("no.jpg": no such file)

    assert error.([dir, "dog", "--html", "dog.jpg"]) =~
             "expected --html to be the name of a file that ends in .html"

    assert error.([dir, "dog", "--index", "dog.jpg"]) =~
             "expected --index to be the name of a file that ends in .index"
  end
end
