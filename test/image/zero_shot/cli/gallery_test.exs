defmodule Image.ZeroShot.GalleryTest do
  # The page that `mix zero_shot.classify --html` writes.
  # The standard error belongs to the whole VM.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Captured

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.CLI.{Console, Gallery, Thumbnails}

  @moduletag :tmp_dir

  @flags ["--repo", "embedded", "--device", "cpu", "--labels", "a dog, a cat, a pizza"]

  defp classify(argv), do: captured(fn -> Console.run(argv ++ @flags, []) end)

  defp articles(html), do: Regex.scan(~r{<article>.*</article>}, html) |> List.flatten()

  defp labels(article), do: Regex.scan(~r/data-label="([^"]*)"/, article, capture: :all_but_first)

  defp thumbnail(article) do
    [_, base64] = Regex.run(~r{src="data:image/jpeg;base64,([^"]+)"}, article)
    Base.decode64!(base64)
  end

  defp page(dir, pictures) do
    target = Path.join(dir, "page.html")
    page = Gallery.start(target, "pictures")
    for {path, jpeg, result} <- pictures, do: :ok = Gallery.add(page, path, jpeg, result)
    :ok = Gallery.finish(page)
    File.read!(target)
  end

  test "has each picture with its thumbnail and its labels, beside the table", %{tmp_dir: dir} do
    target = Path.join(dir, "page.html")
    argv = for(name <- ["dog.jpg", "cat.png", "pizza.webp"], do: "priv/samples/#{name}")
    assert {:ok, table, ""} = classify(argv ++ ["--html", target])
    assert length(String.split(table, "\n", trim: true)) == 3

    html = File.read!(target)
    assert html =~ "<title>3 pictures: a dog, a cat, a pizza</title>"
    assert [dog, cat, pizza] = articles(html)

    for {article, label} <- [{dog, "a dog"}, {cat, "a cat"}, {pizza, "a pizza"}] do
      assert [[^label], _, _] = labels(article)
      # The thumbnail is a picture of the same thing.
      assert ZeroShot.label(thumbnail(article), ["a dog", "a cat", "a pizza"], repo: :embedded) ==
               label
    end

    assert File.ls!(dir) == ["page.html"]
  end

  test "names pictures that failed, without a thumbnail", %{tmp_dir: dir} do
    target = Path.join(dir, "page.html")
    argv = ["priv/samples/dog.jpg", "no-such.jpg", "--html", target, "--top", "1"]
    assert {{:error, "1 of 2 could not be classified" <> _}, _, _} = classify(argv)
    assert [dog, missing] = target |> File.read!() |> articles()
    assert [["a dog"]] = labels(dog)
    assert missing =~ ~s(<p>&quot;no-such.jpg&quot;: no such file</p>)
    refute missing =~ "<img"
  end

  test "loads nothing from elsewhere, and runs nothing that a name or a label says", %{
    tmp_dir: dir
  } do
    path = ~S[/a/<script>alert(1)</script>"' onerror=x?#&.jpg]
    label = ~S["><img src=x onerror=alert(1)>]
    html = page(dir, [{path, "jpeg", {:ok, [%{label: label, score: 0.5}]}}])
    [article] = articles(html)

    refute article =~ "<script"
    refute article =~ "<img src=x"
    assert article =~ "&lt;script&gt;alert(1)&lt;/script&gt;&quot;"
    assert [[_, href]] = Regex.scan(~r/href="([^"]*)"/, article)
    assert "file://" <> encoded = href
    assert URI.decode(encoded) == path
    refute encoded =~ ~r/[?#'<>]/

    refute html =~ ~r{(src|href)="(https?:)?//}
    refute html =~ ~r/url[(]|@import|<link|fetch[(]|XMLHttp/
    assert html =~ ~s(content="default-src 'none'; img-src data:)
  end

  test "is valid UTF-8, whatever bytes a name has", %{tmp_dir: dir} do
    html = page(dir, [{<<"a", 0xE9, "\n.jpg">>, nil, {:ok, []}}])
    assert String.valid?(html)
    assert html =~ ">a\uFFFD\uFFFD.jpg</a>"
    assert html =~ "a%E9%0A.jpg"

    html = page(dir, [{"a\u202Egpj.exe", nil, {:ok, []}}, {"👨\u200D👩.png", nil, {:ok, []}}])
    assert html =~ ">a\uFFFDgpj.exe</a>"
    assert html =~ ">👨\u200D👩.png</a>"
  end

  test "links to files beside it or below it by relative names", %{tmp_dir: dir} do
    beside = Path.join(dir, "a b/c.jpg")
    html = page(dir, [{beside, nil, {:ok, []}}])
    assert html =~ ~s(href="./a%20b/c.jpg")
  end

  test "draws bars from 0 to 1, and shows scores that are not", %{tmp_dir: dir} do
    results = for score <- [25.5, 1.0, 0.5, -0.25, 1.0e-12], do: %{label: "x", score: score}
    html = page(dir, [{"a.jpg", nil, {:ok, results}}])

    assert Regex.scan(~r/--part:([\d.]+)%/, html, capture: :all_but_first) ==
             [["100.0"], ["100.0"], ["50.0"], ["0.0"], ["0.0"]]

    for shown <- ["25.500", "1.000", "0.500", "-0.250", "0.000"],
        do: assert(html =~ "<span>#{shown}</span>")
  end

  test "takes the same memory for 5,000 pictures as for one", %{tmp_dir: dir} do
    target = Path.join(dir, "page.html")
    jpeg = :crypto.strong_rand_bytes(3_000)
    page = Gallery.start(target, "many")
    results = for i <- 1..5, do: %{label: "label #{i}", score: i / 15}
    # Base64 of all thumbnails takes 20 MB.
    :erlang.garbage_collect()
    before = :erlang.memory(:total)

    for i <- 1..5_000 do
      :ok = Gallery.add(page, "#{i}.jpg", jpeg, {:ok, results})
      if rem(i, 500) == 0, do: assert(:erlang.memory(:total) - before < 10_000_000)
    end

    Gallery.finish(page)
    assert File.stat!(target).size in 20_000_000..27_000_000
  end

  test "replaces an old page only when it is finished", %{tmp_dir: dir} do
    target = Path.join(dir, "page.html")
    File.write!(target, "old")
    page = Gallery.start(target, "new")
    assert File.read!(target) == "old"
    Gallery.abandon(page)
    assert File.ls!(dir) == ["page.html"]
    assert File.read!(target) == "old"

    model = Path.join(dir, "no-model")
    argv = ["priv/samples/dog.jpg", "--labels", "a dog", "--html", target, "--repo", model]
    assert {:error, _no_such_model} = Console.run(argv)
    assert File.ls!(dir) == ["page.html"]
    assert File.read!(target) == "old"
  end

  test "that cannot be written is an error before any work", %{tmp_dir: dir} do
    for {target, message} <- [
          {Path.join(dir, "no/page.html"),
           ~r/page.html": the page cannot be written: no such file/},
          {Path.join(dir, "a.html"), ~r/a.html": the page cannot be written: illegal operation/},
          {"priv/samples/dog.jpg",
           ~r/^expected --html to be the name of a file that ends in .html/}
        ] do
      File.mkdir_p!(Path.join(dir, "a.html"))
      assert {{:error, error}, "", _} = classify(["priv/samples/dog.jpg", "--html", target])
      assert error =~ message
    end
  end

  describe "a thumbnail" do
    test "is a JPEG of 96 pixels a side, of every kind of picture" do
      opts = Image.ZeroShot.Call.Options.embed!(decode: :fast)

      for path <- Path.wildcard("priv/samples/*.{jpg,png,webp}") do
        assert {:ok, <<0xFF, 0xD8, _::binary>> = jpeg} = Thumbnails.jpeg({:path, path}, opts)
        assert byte_size(jpeg) < 8_000
        # Where a frame starts, its height and its width.
        assert :binary.match(jpeg, <<0xFF, 0xC0, 17::16, 8, 96::16, 96::16, 3>>) != :nomatch
      end
    end

    test "that there is none of does not end the stream" do
      results = [
        {{:path, "no.jpg"}, {:error, %Error{reason: :io, message: "no"}}},
        {"x", {:ok, []}}
      ]

      assert [{{:path, "no.jpg"}, {:error, _}, nil}, {"x", {:ok, []}, nil}] =
               results |> Thumbnails.add() |> Enum.to_list()
    end

    test "of another number of bytes is refused" do
      assert {:error, {:invalid_argument, message}} = Native.thumbnail(<<0, 0, 0>>, 2)
      assert message == "3 bytes are not three planes of 2 x 2 pixels"
      assert {:error, {:invalid_argument, _}} = Native.thumbnail("", 0)
    end
  end
end
