defmodule Image.ZeroShot.SearchTaskTest do
  # The standard error belongs to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Test.Captured

  alias Image.ZeroShot.CLI.Search
  alias Image.ZeroShot.Index
  alias Image.ZeroShot.Test.JSON

  @moduletag :tmp_dir

  @flags ["--repo", "embedded", "--device", "cpu"]

  defp search(argv, output \\ []), do: captured(fn -> Search.run(argv ++ @flags, output) end)

  defp picture!(dir, name, sample) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.cp!(Path.join("priv/samples", sample), path)
    # Long ago: a picture that changed a moment ago is not trusted to stay.
    File.touch!(path, 1_600_000_000)
    path
  end

  # A cache directory of the test's own.
  defp cache!(dir) do
    cache = Path.join(dir, "cache")
    before = System.get_env("XDG_CACHE_HOME")
    System.put_env("XDG_CACHE_HOME", cache)

    on_exit(fn ->
      if before,
        do: System.put_env("XDG_CACHE_HOME", before),
        else: System.delete_env("XDG_CACHE_HOME")
    end)

    cache
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

  test "a picture of the folder is not like itself, by whatever name", %{tmp_dir: dir} do
    album!(dir)
    link = Path.join(dir, "link to dog")
    File.ln_s!("dog.jpg", link)

    for like <- [Path.join(dir, "dog.jpg"), Path.join(dir, "./more/../dog.jpg"), link] do
      assert {:ok, shown, _told} = search([dir, "--like", like, "--top", "1"])
      assert shown =~ ~r/^ 1\.0000  .*copy of dog\.jpg\n\z/
    end
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

  test "an index of far more entries than pictures is built again", %{tmp_dir: dir} do
    album!(dir)
    index = Index.new()
    one = Image.ZeroShot.embed({:path, Path.join(dir, "dog.jpg")}, repo: :embedded, device: :cpu)

    for {count, embedded} <- [{1_016, 4}, {1_017, 4}] do
      :ok = Index.put_many(index, for(n <- 1..count, do: {{"#{n}.jpg", 1, 1}, one}))
      :ok = Index.save(index, Path.join(dir, ".zero_shot.index"))
      assert {:ok, _shown, told} = search([dir, "dog"])
      assert told =~ "embedding #{embedded} new pictures\n"
      assert told =~ "building it again" == count > 1_016
    end
  end

  test "where the index cannot be kept is said", %{tmp_dir: dir} do
    album!(dir)
    File.mkdir!(Path.join(dir, ".zero_shot.index"))
    cache = cache!(dir)
    assert {:ok, shown, told} = search([dir, "dog"])

    assert told =~
             ~r/the index cannot be kept: .*; it goes to "#{Regex.escape(cache)}\/image_zero_shot\/search\/[0-9a-f]{32}.index" instead\n/

    assert {:ok, ^shown, ""} = search([dir, "dog"])
  end

  test "a link where the index belongs is not followed", %{tmp_dir: dir} do
    folder = Path.join(dir, "a")
    album!(folder)
    cache = cache!(dir)
    theirs = Path.join(dir, "somebody's file")
    link = Path.join(folder, ".zero_shot.index")

    for text <- ["important", :an_index] do
      File.rm_rf!(cache)
      if text == :an_index, do: Index.save(Index.new(), theirs), else: File.write!(theirs, text)
      before = File.read!(theirs)
      File.rm(link)
      File.ln_s!(theirs, link)
      assert {:ok, shown, told} = search([folder, "dog"])

      assert told =~ ~r/^"#{Regex.escape(link)}": is a link, which is not followed; it goes to "/
      assert told =~ "embedding 4 new pictures\n"
      assert {:ok, ^shown, told} = search([folder, "dog"])
      refute told =~ "embedding"
      assert File.read!(theirs) == before
    end
  end

  test "a file of another program is not replaced by an index", %{tmp_dir: dir} do
    album!(dir)
    file = Path.join(dir, "faiss.index")
    File.write!(file, "IxFI and many vectors")

    assert {{:error, message}, "", ""} = search([dir, "dog", "--index", file])
    assert message =~ "#{inspect(file)}: is a file of another program, not an index"
    assert File.read!(file) == "IxFI and many vectors"

    for own <- ["", "image_zero_shot index 1\n and damaged"] do
      File.write!(file, own)
      assert {:ok, _shown, told} = search([dir, "dog", "--index", file])
      assert told =~ "building it again\nembedding 4 new pictures\n"
    end
  end

  test "the index that was written last counts", %{tmp_dir: dir} do
    folder = Path.join(dir, "a")
    album!(folder)
    cache!(dir)
    assert {:ok, _shown, _told} = search([folder, "dog"])
    File.touch!(Path.join(folder, ".zero_shot.index"), 1_700_000_000)
    # From now on it cannot be written there.
    File.mkdir!(Path.join(folder, ".zero_shot.index.saving"))
    picture!(folder, "new.png", "cat.png")
    assert {:ok, _shown, told} = search([folder, "dog"])
    assert told =~ "embedding 1 new pictures\n"
    assert told =~ "it goes to "
    assert {:ok, _shown, ""} = search([folder, "dog"])
  end

  test "a folder that two search at once is not embedded again", %{tmp_dir: dir} do
    album!(dir)
    index = Path.join(dir, ".zero_shot.index")
    {"", 0} = System.cmd("mkfifo", [Path.join(dir, "saved")])
    # Another process saves to the same place, until somebody reads the pipe.
    script = ~s(flock "$0.saving" sh -c 'echo locked; : > "$1"' - "$1")

    port =
      Port.open({:spawn_executable, "/bin/sh"}, [
        :binary,
        args: ["-c", script, index, Path.join(dir, "saved")]
      ])

    assert_receive {^port, {:data, "locked\n"}}, 5_000

    told =
      capture_io(fn ->
        search = Task.async(fn -> Search.run([dir, "dog" | @flags], beside: :stdio) end)
        refute Task.yield(search, 500)
        assert "" == File.read!(Path.join(dir, "saved"))
        assert Task.await(search, 30_000) == :ok
      end)

    refute told =~ "cannot be kept"
    assert File.regular?(index)
    assert {:ok, _shown, ""} = search([dir, "dog"])
  end

  test "a picture that changed a moment ago is looked at again", %{tmp_dir: dir} do
    album!(dir)
    fresh = picture!(dir, "fresh.png", "cat.png")
    File.touch!(fresh, System.os_time(:second))
    assert {:ok, _shown, "embedding 5 new pictures\n"} = search([dir, "dog"])
    # Rewritten within the same second, with as many bytes.
    File.touch!(fresh, 1_600_000_000)
    assert {:ok, shown, "embedding 1 new pictures\n"} = search([dir, "dog"])
    assert length(names(shown)) == 5
    assert {:ok, ^shown, ""} = search([dir, "dog"])
  end

  test "a folder that cannot be read is reported, and its pictures are not forgotten", %{
    tmp_dir: dir
  } do
    on_exit(fn -> System.cmd("rm", ["-rf", dir]) end)
    folder = Path.join(dir, "a")
    album!(folder)
    long = String.duplicate("d", 250)
    # 3,500 bytes deeper.
    script =
      ~s(cd "$0" && mv more deep && for i in $(seq 14\); do ) <>
        ~s(mkdir d && mv deep "d/$1" && mv d deep || exit 1; done)

    {"", 0} = System.cmd("sh", ["-c", script, folder, long])
    assert {:ok, shown, "embedding 4 new pictures\n"} = search([folder, "dog"])
    assert length(names(shown)) == 4

    # Where it is now, the names of its pictures are longer than the system takes.
    elsewhere = Enum.reduce(1..2, dir, fn _, path -> Path.join(path, long) end)
    File.mkdir_p!(elsewhere)
    File.rename!(folder, Path.join(elsewhere, "a"))
    assert {:ok, _shown, told} = search([Path.join(elsewhere, "a"), "dog"])
    assert told =~ ~r/\A"[^"]*d": file name too long\n\z/
    File.rename!(Path.join(elsewhere, "a"), folder)
    assert {:ok, ^shown, ""} = search([folder, "dog"])
  end

  test "a folder without pictures is an error, and its index stays", %{tmp_dir: dir} do
    folder = Path.join(dir, "a")
    index = Path.join(dir, "kept.index")
    album!(folder)
    assert {:ok, shown, _told} = search([folder, "dog", "--index", index])
    # As where a disk is not mounted.
    File.rename!(folder, Path.join(dir, "elsewhere"))
    File.mkdir!(folder)
    assert {{:error, message}, "", ""} = search([folder, "dog", "--index", index])
    assert message == "#{inspect(folder)}: contains no pictures"
    File.rmdir!(folder)
    File.rename!(Path.join(dir, "elsewhere"), folder)
    assert {:ok, ^shown, ""} = search([folder, "dog", "--index", index])
  end

  test "what is not a file is passed over", %{tmp_dir: dir} do
    album!(dir)
    {"", 0} = System.cmd("mkfifo", [Path.join(dir, "pipe.jpg")])
    File.ln_s!("pipe.jpg", Path.join(dir, "link to a pipe.jpg"))
    File.ln_s!("gone.jpg", Path.join(dir, "nowhere.jpg"))
    File.ln_s!(".", Path.join(dir, "more/loop"))
    File.ln_s!("ring.jpg", Path.join(dir, "ring.jpg"))
    File.mkdir!(Path.join(dir, "folder.jpg"))
    File.write!(Path.join(dir, "empty.jpg"), "")
    assert {:ok, shown, told} = search([dir, "dog"])
    assert length(names(shown)) == 4
    assert told =~ "empty.jpg\": "

    assert {{:error, message}, "", ""} = search([dir, "--like", Path.join(dir, "pipe.jpg")])
    assert message =~ "pipe.jpg\": is not a file"
  end

  test "hundreds of copies are one group", %{tmp_dir: dir} do
    album!(dir)
    for n <- 1..250, do: File.ln!(Path.join(dir, "dog.jpg"), Path.join(dir, "dog #{n}.jpg"))
    for n <- 1..150, do: File.ln!(Path.join(dir, "more/cat.png"), Path.join(dir, "cat #{n}.png"))

    assert {:ok, shown, _told} =
             search([dir, "--duplicates", "--format", "csv", "--min-score", "0.999"])

    rows = shown |> String.split("\r\n", trim: true) |> tl() |> Enum.map(&String.split(&1, ","))
    assert [cats, dogs] = rows |> Enum.chunk_by(&hd/1)
    assert {length(cats), length(dogs)} == {151, 252}
    for [_group, path, _score] <- cats, do: assert(path =~ "cat")
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

    assert error.([dir, "dog", "--formats", "x"]) =~
             "unknown flag --formats; did you mean --format?"

    assert error.([dir, "dog", "--quiet"]) =~ "unknown flag --quiet; the flags are --like,"
    assert error.([dir, "dog", "--template", "x"]) =~ "expected --template to contain {label}"
    assert error.([dir, "dog", "--format", "x"]) =~ "expected --format to be table, json or csv"
    assert error.(["none", "dog"]) =~ ~s(expected a folder with pictures, got: "none")
    assert error.([dir, "--like", "no.jpg"]) =~ ~s("no.jpg": no such file)

    assert error.([dir, "dog", "--html", "dog.jpg"]) =~
             "expected --html to be the name of a file that ends in .html"

    assert error.([dir, "dog", "--index", "dog.jpg"]) =~
             "expected --index to be the name of a file that ends in .index"
  end
end
