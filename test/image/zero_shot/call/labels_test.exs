defmodule Image.ZeroShot.LabelsTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.{Labels, Options}
  alias Image.ZeroShot.Test.Pictures

  @dog Pictures.sample("dog.jpg")

  setup_all do
    # Nothing is known from before: what is alone is computed alone.
    opts = [name: __MODULE__.Clip, repo: :embedded, device: :cpu, max_cached_prompts: 0]
    start_supervised!({Serving, opts})
    :ok
  end

  defp refused(labels, opts \\ []) do
    assert {:error, %Error{} = error} = Labels.new(labels, Options.classify!(opts))
    assert error.reason == :invalid_label
    error.message
  end

  test "labels are strings, as many and as long as the limits allow" do
    opts = Options.classify!(max_labels: 3, max_label_bytes: 4)

    for labels <- [["a"], ["a", "a", "b"], [""], ["ünü"], ["a\0b"], ["🐶"]] do
      if Enum.all?(labels, &(byte_size(&1) <= 4)) do
        assert {:ok, %Labels{terms: ^labels}} = Labels.new(labels, opts)
      end
    end

    assert {:ok, _} = Labels.new([String.duplicate("a", 4_096)], Options.classify!([]))
  end

  @expected "expected labels as a list, a map of label => prompts or an Image.ZeroShot.Classifier"

  test "an empty list, or another term, is refused" do
    assert refused([]) == "expected at least one label, got: []"
    assert refused("dog") == ~s(#{@expected}, got: "dog")
    assert refused(nil) == "#{@expected}, got: nil"
    assert refused(%{}) == "expected at least one label, got: %{}"
    assert refused(["dog" | "cat"]) == ~s(#{@expected}, got: "cat")
  end

  test "a label that is not a string is named by its index" do
    assert refused(["dog", :cat]) ==
             "label at index 1 is not a string or {label, prompts}: :cat"

    assert refused(%{"dog" => 1}) ==
             ~s(label at index 0 is not a string or {label, prompts}: {"dog", 1})

    assert refused([nil]) == "label at index 0 is not a string or {label, prompts}: nil"
    assert refused([~c"dog"]) =~ "label at index 0 is not a string or {label, prompts}: "

    assert refused(["a", "b", <<1::1>>]) ==
             "label at index 2 is not a string or {label, prompts}: <<1::size(1)>>"
  end

  test "a label that is not valid UTF-8 is named by its index" do
    assert refused(["dog", <<"c", 0xE4, "t">>]) ==
             "label at index 1 is not valid UTF-8: <<99, 228, 116>>"

    # A surrogate, and a sequence that is longer than it need be.
    assert refused([<<0xED, 0xA0, 0x80>>]) =~ "index 0 is not valid UTF-8"
    assert refused([<<0xC0, 0x80>>]) =~ "index 0 is not valid UTF-8"
  end

  test "an error over a limit names its option" do
    assert refused(["dog", String.duplicate("ä", 2_049)]) ==
             "label at index 1 has 4098 bytes, more than :max_label_bytes, which is 4096"

    assert refused(List.duplicate("dog", 10_001)) ==
             "more labels than :max_labels, which is 10000"

    assert refused(["a", "b", "c"], max_labels: 2) ==
             "more labels than :max_labels, which is 2"
  end

  test "all prompts together have a limit, templates times labels" do
    message = "have more prompts than :max_prompts, which is "

    assert refused([{:a, ["a", "b"]}, {:b, ["c"]}, {:c, ["d"]}], max_prompts: 3) ==
             "labels up to index 2 " <> message <> "3"

    assert {:ok, _} = Labels.new([{:a, ["a", "b"]}, "c"], Options.classify!(max_prompts: 3))

    assert refused(["a", "b"], template: :openai_imagenet, max_prompts: 159) ==
             "labels up to index 1 " <>
               message <> "159; each of the 80 templates makes a prompt of every label"

    thousand = {:thing, List.duplicate("a", 1_000)}

    assert refused(List.duplicate(thousand, 101)) ==
             "labels up to index 100 " <> message <> "100000"

    assert {:ok, labels} = Labels.new(List.duplicate(thousand, 100), Options.classify!([]))
    assert length(labels.prompts) == 100_000

    # The classes of ImageNet, as CLIP's authors prompted for them.
    classes = for n <- 1..1_000, do: "class #{n}"
    assert {:ok, _} = Labels.new(classes, Options.classify!(template: :openai_imagenet))
  end

  test "labels with prompts of their own are checked like others" do
    for {labels, fault} <- [
          {[{:a, "a"}, {:b, []}], "index 1 has no prompts"},
          {[{:a, ["a", :b]}], "index 0 is not a string: :b"},
          {%{a: <<255>>}, "index 0 is not valid UTF-8: <<255>>"},
          {[{:a, ["a" | "b"]}], ~s(index 0 has prompts that are not a list: ["a" | "b"])},
          {[{:a, "abcde"}], "index 0 has 5 bytes, more than :max_label_bytes, which is 4"},
          {[{:a, List.duplicate("a", 1_001)}], "index 0 has more than 1000 prompts"},
          {[{"a", "b", "c"}], ~s(index 0 is not a string or {label, prompts}: {"a", "b", "c"})}
        ],
        do: assert(refused(labels, max_label_bytes: 4) == "label at #{fault}")

    # A struct is a map, and no map of labels.
    assert refused(MapSet.new(["dog"])) =~ "#{@expected}, got: "
    assert refused(Map.new(1..3, &{&1, "a"}), max_labels: 2) =~ ":max_labels, which is 2"
  end

  test "templates do not count towards :max_label_bytes" do
    opts = Options.classify!(max_label_bytes: 3, template: String.duplicate("a", 99) <> "{label}")
    assert {:ok, %Labels{prompts: [prompt]}} = Labels.new(["dog"], opts)
    assert byte_size(prompt) == 102
  end

  test "parts joined are the whole, and no label is split" do
    :rand.seed(:exsss, {7, 7, 7})

    for _ <- 1..200 do
      pairs =
        for n <- 1..:rand.uniform(40),
            do: {n, for(i <- 1..:rand.uniform(9), do: "#{n} #{i}")}

      {:ok, labels} = Labels.new(pairs, Options.classify!([]))
      most = :rand.uniform(20)
      parts = Labels.parts(labels, most)

      for key <- [:terms, :prompts, :counts],
          do: assert(Enum.flat_map(parts, &Map.fetch!(&1, key)) == Map.fetch!(labels, key))

      for part <- parts do
        assert Enum.sum(part.counts) == length(part.prompts)
        assert length(part.terms) == length(part.counts) and part.terms != []
        assert length(part.prompts) <= most or length(part.terms) == 1
      end
    end
  end

  describe "whatever the labels are," do
    # Many of them are too long, which is told of.
    @describetag capture_log: true

    test "there is a score for each, and they sum to 1" do
      :rand.seed(:exsss, {1, 2, 3})

      for count <- [1, 2, 17, 100] do
        labels = for _ <- 1..count, do: text(:rand.uniform(60))
        assert_whole(classify(labels), labels)
      end
    end

    test "the longest and the most allowed are classified" do
      long = for n <- 1..20, do: String.pad_trailing("#{n} ", 4_096, "a long label ")
      assert_whole(classify(long), long)

      hostile = [String.duplicate("👩‍👩‍👧", 227), String.duplicate("e\u0301", 1_365), "\0", ""]
      assert_whole(classify(hostile), hostile)

      many = for n <- 1..10_000, do: "thing #{rem(n, 5_000)}"
      assert_whole(classify(many), many)
      assert {:error, %Error{reason: :invalid_label}} = try_classify(["one more" | many])
    end

    test "their order does not change the scores" do
      :rand.seed(:exsss, {4, 5, 6})
      labels = for(_ <- 1..30, do: text(:rand.uniform(12))) |> Enum.uniq()
      expected = scores(labels, [])

      for _ <- 1..10 do
        for {label, score} <- scores(Enum.shuffle(labels), []),
            do: assert_in_delta(score, expected[label], 1.0e-4)
      end
    end

    test "a label has the same cosine alone and in a list" do
      :rand.seed(:exsss, {7, 8, 9})
      labels = for(_ <- 1..40, do: text(:rand.uniform(20))) |> Enum.uniq()
      together = scores(labels, scores: :cosine)

      for label <- labels do
        [%{score: score}] = classify([label], scores: :cosine)
        assert_in_delta score, together[label], 1.0e-4
      end
    end

    test "equal ones have equal scores, in the order given" do
      labels = [{:first, "dog"}, {:second, "cat"}, {:third, "dog"}, {"dog", "dog"}]
      assert [:first, :third, "dog", :second] = labels |> classify() |> Enum.map(& &1.label)
      assert classify([{:a, "cat"}, {:a, "cat"}]) == List.duplicate(%{label: :a, score: 0.5}, 2)
    end

    test "a map has the order of its list" do
      map = Map.new(1..50, &{&1, "the same"})

      assert map |> classify() |> Enum.map(& &1.label) ==
               map |> Map.to_list() |> Enum.map(&elem(&1, 0))
    end
  end

  # Letters of several scripts, from both sides, marks that join or combine, what is no letter, and
  # anything at all.
  @pieces ["dog ", "É", "ß", "ﬁ", "كلب", "כלב", "犬", "ไทย", "नि", "👩‍👩‍👧", "🏳️‍🌈", "🇫🇷", "\u200D"] ++
            [
              "e\u0301",
              "\u0301",
              "\u202E",
              "\uFEFF",
              "\0",
              "\n",
              "<|endoftext|>",
              "{label}",
              "'s"
            ]

  defp text(length) do
    for _ <- 1..length, into: "" do
      if :rand.uniform(4) == 1, do: <<codepoint()::utf8>>, else: Enum.random(@pieces)
    end
  end

  defp codepoint do
    case :rand.uniform(0x10FFFF) do
      surrogate when surrogate in 0xD800..0xDFFF -> codepoint()
      codepoint -> codepoint
    end
  end

  defp classify(labels, more \\ []), do: labels |> try_classify(more) |> elem(1)

  # The most labels take longer than usual where other programs take the cores.
  defp try_classify(labels, more \\ []) do
    opts = [serving: __MODULE__.Clip, timeout: :infinity] ++ more
    ZeroShot.try_classify(@dog, labels, opts)
  end

  defp scores(labels, more), do: labels |> classify(more) |> Map.new(&{&1.label, &1.score})

  defp assert_whole(results, labels) do
    assert Enum.sort(Enum.map(results, & &1.label)) == Enum.sort(labels)
    scores = Enum.map(results, & &1.score)
    assert scores == Enum.sort(scores, :desc)
    assert_in_delta Enum.sum(scores), 1.0, 1.0e-6
  end
end
