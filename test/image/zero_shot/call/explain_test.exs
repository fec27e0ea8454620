defmodule Image.ZeroShot.ExplainTest do
  # The arithmetic and the drawing are tested in Rust, against transformers. Here: the contract, and whether
  # maps of the embedded model say where things are.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Embedding, Error, Serving, Test}
  alias Image.ZeroShot.Test.{Explain, Pictures}

  @opts [repo: :embedded, device: :cpu]
  @dog Pictures.sample("dog.jpg")
  @labels ["cat", "dog", "pizza"]

  defp explain(picture, labels, opts \\ []), do: ZeroShot.explain(picture, labels, @opts ++ opts)

  defp sum(map), do: map |> List.flatten() |> Enum.sum()

  defp close(one, other, delta \\ 1.0e-5), do: assert_in_delta(one, other, delta)

  describe "results" do
    test "have the labels and scores of classify/3, in its order" do
      for opts <- [
            [],
            [top_k: 2],
            [min_score: 0.5],
            [scores: :cosine],
            [scores: :logits],
            [multi_label: true],
            [other: "guitar"],
            [other: ["guitar", "rocket"]],
            [other: "guitar", multi_label: true],
            [logit_scale: 10.0],
            [template: ["a {label}", "a photo of {label}"]],
            [decode: :fast]
          ] do
        explained = explain(@dog, @labels, opts)
        classified = ZeroShot.classify(@dog, @labels, @opts ++ opts)
        assert Enum.map(explained, & &1.label) == Enum.map(classified, & &1.label)

        for {one, other} <- Enum.zip(explained, classified),
            do: close(one.score, other.score, 1.0e-3)
      end
    end

    test "sum to the cosine" do
      cosines =
        Map.new(
          ZeroShot.classify(@dog, @labels, [scores: :cosine] ++ @opts),
          &{&1.label, &1.score}
        )

      for result <- explain(@dog, @labels) do
        close(result.cosine, cosines[result.label])
        close(sum(result.map) + result.rest, result.cosine)
        close(sum(result.map) / result.cosine, result.explained)
      end
    end

    test "have the contrast to the mean of the other labels" do
      results = explain(@dog, @labels)
      maps = Map.new(results, &{&1.label, List.flatten(&1.map)})

      for %{label: label, contrast: contrast} <- results do
        others = maps |> Map.delete(label) |> Map.values() |> Enum.zip_with(&(Enum.sum(&1) / 2))

        for {[own, others], contrast} <-
              [maps[label], others]
              |> Enum.zip()
              |> Enum.map(&Tuple.to_list/1)
              |> Enum.zip(List.flatten(contrast)),
            do: close(own - others, contrast)
      end
    end

    test "of a lone label are contrasted with :other, or with nothing" do
      assert [%{map: map, contrast: map}] = explain(@dog, ["dog"])
      assert [%{label: "dog"} = dog, %{label: "cat"}] = explain(@dog, ["dog"], other: "cat")
      assert dog.contrast != dog.map
    end

    test "of :other with several prompts are those of the best prompt" do
      results = explain(@dog, ["pizza"], other: {:none, ["guitar", "dog"]}, template: nil)
      assert %{cosine: cosine} = Enum.find(results, &(&1.label == :none))

      [%{score: dog}, _] =
        ZeroShot.classify(@dog, ["dog", "guitar"], [scores: :cosine, template: nil] ++ @opts)

      close(cosine, dog)
    end

    test "are for a classifier what they are for its labels" do
      classifier = ZeroShot.classifier(@labels, @opts)

      for {one, other} <- Enum.zip(ZeroShot.explain(@dog, classifier), explain(@dog, @labels)) do
        assert one.label == other.label
        close(one.rest, other.rest)
        for {a, b} <- Enum.zip(List.flatten(one.map), List.flatten(other.map)), do: close(a, b)
      end
    end

    test "of a calibrated classifier leave out its threshold, which has no map" do
      examples = [
        {Pictures.sample("cat.png"), "cat"},
        {@dog, "dog"},
        {Pictures.sample("rocket.png"), nil}
      ]

      {:ok, calibrated} =
        Classifier.calibrate(ZeroShot.classifier(["cat", "dog"], @opts), examples)

      labels = Enum.map(ZeroShot.classify(@dog, calibrated), & &1.label)
      assert nil in labels
      assert Enum.map(ZeroShot.explain(@dog, calibrated), & &1.label) == labels -- [nil]
    end

    test "of more labels than go through the model at once are whole" do
      labels = for i <- 1..600, do: {i, "thing #{i}"}

      assert [%{label: {:best, 1}}] =
               explain(@dog, [{{:best, 1}, "a photo of dog"} | labels], top_k: 1)
    end
  end

  describe "the box" do
    test "is the middle that the model sees, upright" do
      wide = Pictures.png(128, 64, fn x, _y -> {x, 0, 0} end)
      assert [%{size: {128, 64}, box: box}] = explain(wide, ["dog"])
      assert box == {32.0, 0.0, 64.0, 64.0}
      tall = Pictures.png(128, 64, [orientation: 6], fn x, _y -> {x, 0, 0} end)
      assert [%{size: {64, 128}, box: box}] = explain(tall, ["dog"])
      assert box == {0.0, 32.0, 64.0, 64.0}
    end

    test "of a large JPEG that is decoded to fewer pixels is that of all of them" do
      photo = Image.ZeroShot.Test.Photo.jpeg(3000, 1500)
      [exact] = explain(photo, ["dog"])
      [fast] = explain(photo, ["dog"], decode: :fast)
      assert {exact.size, exact.box} == {{3000, 1500}, {750.0, 0.0, 1500.0, 1500.0}}
      assert {fast.size, fast.box} == {exact.size, exact.box}
    end

    test "turns with the picture" do
      # The same file, once turned by a quarter by its Exif: rows become columns.
      upright = Pictures.png(64, 64, &stripes/2)
      turned = Pictures.png(64, 64, [orientation: 6], &stripes/2)
      drawn = Pictures.png(64, 64, fn x, y -> stripes(y, 63 - x) end)
      [one] = explain(turned, ["dog"])
      [other] = explain(drawn, ["dog"])
      for {a, b} <- Enum.zip(List.flatten(one.map), List.flatten(other.map)), do: close(a, b)
      refute hd(explain(upright, ["dog"])).map == one.map
    end

    defp stripes(x, y), do: {4 * x, if(y < 20, do: 255, else: 0), 30}
  end

  describe "maps" do
    test "of two emoji side by side lie on each one's own side" do
      emoji = Explain.emoji()

      right =
        for {left, right} <- Enum.zip(emoji, Enum.reverse(emoji)) |> Enum.take(30) do
          results =
            left.path |> Explain.side_by_side(right.path) |> explain([left.label, right.label])

          {own, other} = Explain.halves(Enum.find(results, &(&1.label == left.label)).contrast)
          if own > other, do: 1, else: 0
        end

      for ten <- Enum.chunk_every(right, 10), do: assert(Enum.sum(ten) >= 8, inspect(right))
    end

    test "name patches that matter: without the highest, a label loses more than without others" do
      # So many of 16.
      count = 4
      :rand.seed(:exsss, {1, 2, 3})

      lost =
        for %{path: path, label: label, candidates: candidates} <- Enum.take(Explain.emoji(), 24) do
          picture = Explain.seen(path)
          contrast = Enum.find(explain(picture, candidates), &(&1.label == label)).contrast

          order =
            contrast
            |> List.flatten()
            |> Enum.with_index()
            |> Enum.sort(:desc)
            |> Enum.map(&elem(&1, 1))

          lead = fn patches ->
            picture |> Explain.without(patches) |> Explain.lead(candidates, label, @opts)
          end

          before = lead.([])

          {before - lead.(Enum.take(order, count)),
           before - lead.(Enum.take_random(0..15, count))}
        end

      {highest, random} = Enum.unzip(lost)
      assert Enum.sum(highest) > 2.5 * Enum.sum(random), inspect(lost)
      assert Enum.count(lost, fn {highest, random} -> highest > random end) >= 20, inspect(lost)
    end
  end

  describe "formats" do
    test "PNG shows the picture, larger if it is small, with a legend below" do
      results = explain(@dog, @labels, format: :png)
      assert length(results) == 3

      for %{png: png} = result <- results do
        refute is_map_key(result, :ansi)
        assert <<0x89, "PNG", _::binary-8, "IHDR", 448::32, height::32, _::binary>> = png
        assert height > 448
        assert {:ok, _planes} = Pictures.planes(png, 448, height)
      end

      assert results |> Enum.map(& &1.png) |> Enum.uniq() |> length() == 3
    end

    test "PNG of a large picture has at most 1024 pixels along a side, and the crop's rest is grey" do
      wide = Pictures.png(2000, 1000, fn _x, _y -> {200, 30, 30} end)
      [%{png: png}] = explain(wide, ["dog"], format: :png)
      assert <<_::binary-16, 1024::32, height::32, _::binary>> = png
      {:ok, planes} = Pictures.planes(png, 1024, height)
      at = fn x, y -> for c <- 0..2, do: :binary.at(planes, (c * height + y) * 1024 + x) end
      assert [grey, grey, grey] = at.(100, 256)
      assert [grey, grey, grey] = at.(1000, 256)
    end

    test "ANSI is lines of half blocks" do
      [%{ansi: text} = result | _] = explain(@dog, @labels, format: :ansi)
      refute is_map_key(result, :png)
      lines = String.split(text, "\n", trim: true)
      assert length(lines) == 19

      for line <- lines,
          do: assert(length(String.split(line, "▀")) == 39 and String.ends_with?(line, "\e[0m"))
    end

    test "none are drawn unless asked for" do
      for result <- explain(@dog, @labels),
          do: assert(not is_map_key(result, :png) and not is_map_key(result, :ansi))
    end
  end

  describe "errors" do
    test "of pictures and labels are those of classify/3" do
      for {picture, labels} <- [
            {"no picture", ["dog"]},
            {{:path, "no.jpg"}, ["dog"]},
            {@dog, []},
            {@dog, [<<255>>]},
            {@dog, [{"dog", {:picture, @dog}}]},
            {{:rgb, <<0>>, 1, 1}, ["dog"]}
          ] do
        assert {:error, %Error{} = error} = ZeroShot.try_explain(picture, labels, @opts)
        assert ZeroShot.try_classify(picture, labels, @opts) == {:error, error}
        assert_raise Error, error.message, fn -> explain(picture, labels) end
      end
    end

    test "an option that does not exist, or a format, raises" do
      assert_raise ArgumentError, ~r/unknown option :fromat; did you mean :format\?/, fn ->
        explain(@dog, @labels, fromat: :png)
      end

      assert_raise ArgumentError,
                   ~r/expected :format to be :png, :ansi or nil, got: :gif/,
                   fn -> explain(@dog, @labels, format: :gif) end

      assert_raise ArgumentError, ~r/unknown option :format/, fn ->
        ZeroShot.classify(@dog, @labels, [format: :png] ++ @opts)
      end
    end

    test "an embedding has no patches any more" do
      embedding = ZeroShot.embed(@dog, @opts)
      assert %Embedding{} = embedding

      assert_raise ArgumentError, ~r/expected a picture, got an Image.ZeroShot.Embedding/, fn ->
        explain(embedding, @labels)
      end
    end

    test "SigLIP is refused, with the reason" do
      repo = {:local, Path.expand("test/fixtures/families/siglip")}
      assert {:error, error} = ZeroShot.try_explain(@dog, @labels, repo: repo, device: :cpu)
      assert error.reason == :unsupported_model
      assert error.message =~ "would not sum to the score"
    end

    test "no time is left for a call that has none" do
      :ok = ZeroShot.load(@opts)

      assert {:error, %Error{reason: reason}} =
               ZeroShot.try_explain(@dog, @labels, [timeout: 0] ++ @opts)

      # Refused before, if the serving knows how long it takes.
      assert reason in [:timeout, :overloaded]
    end
  end

  test "other families with a class token are explained" do
    for family <- ["metaclip-2", "tinyclip"] do
      repo = {:local, Path.expand("test/fixtures/families/#{family}")}
      [best | _] = ZeroShot.explain(@dog, @labels, repo: repo, device: :cpu)
      close(sum(best.map) + best.rest, best.cosine)
    end
  end

  test "calls for vectors beside it get theirs" do
    name = Module.concat(__MODULE__, Busy)
    start_supervised!({Serving, name: name, repo: :embedded, device: :cpu})
    expected = ZeroShot.classify(@dog, @labels, serving: name)

    tasks =
      for i <- 1..24 do
        Task.async(fn ->
          if rem(i, 3) == 0,
            do: ZeroShot.explain(@dog, @labels, serving: name),
            else: ZeroShot.classify(@dog, @labels, serving: name)
        end)
      end

    for results <- Task.await_many(tasks, 60_000), {one, other} <- Enum.zip(results, expected) do
      assert one.label == other.label
      close(one.score, other.score, 1.0e-3)
    end
  end

  test "a stub has the same part in every patch" do
    name = Module.concat(__MODULE__, Stub)
    start_supervised!({Test, name: name})
    Test.stub(name, "dog")
    [best | _] = ZeroShot.explain(@dog, @labels, serving: name, format: :png)
    assert best.label == "dog"
    assert [[part, part, part, part], _, _, _] = best.map
    close(16 * part, best.cosine)
    assert {best.rest, best.size} == {0.0, {256, 256}}
    assert <<0x89, "PNG", _::binary>> = best.png
    assert [{:picture, @dog}, {:texts, [_, _, _]}] = Test.calls(name)

    Test.stub(name, {:error, %Error{reason: :overloaded, message: "the serving is full"}})

    assert {:error, %Error{reason: :overloaded}} =
             ZeroShot.try_explain(@dog, @labels, serving: name)
  end
end
