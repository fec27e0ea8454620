defmodule Image.ZeroShot.ClassifierBinaryTest do
  # Counts atoms.
  use ExUnit.Case, async: false

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Error}
  alias Image.ZeroShot.Classifier.Codec
  alias Image.ZeroShot.Test.{JSON, Pictures}

  @opts [repo: :embedded, device: :cpu]
  @dog Pictures.sample("dog.jpg")
  @magic "image_zero_shot classifier 1\n"

  defp compile(labels, more \\ []), do: labels |> ZeroShot.classifier(more ++ @opts) |> settled()

  defp classify(classifier), do: @dog |> ZeroShot.classify(classifier) |> settled()

  # The serving answers first and remembers then; this comes after both.
  defp settled(result) do
    {:ok, _info} = ZeroShot.info(@opts)
    result
  end

  describe "a classifier that is written and read" do
    test "gives the same results" do
      for {labels, more} <- [
            {["dog", "cat", "dog"], []},
            {["dog"], [template: :simple_imagenet]},
            {%{1 => ["a dog", "a puppy"], 2 => "a cat"}, [logit_scale: 10, other: "none"]}
          ] do
        classifier = compile(labels, more)
        binary = Classifier.to_binary(classifier)
        assert binary == Classifier.to_binary(classifier)
        assert {:ok, read} = Classifier.from_binary(binary, more ++ @opts)
        assert Classifier.info(read) == Classifier.info(classifier)
        assert classify(read) == classify(classifier)
        assert Classifier.to_binary(read) == binary
      end
    end

    test "has its labels, of whatever plain data" do
      terms = [
        :atom,
        nil,
        1.5,
        -(2 ** 200),
        {:id, 7, %{"deep" => [[{1}], [2 | 3]]}},
        %URI{host: "host"},
        <<1::3>>,
        <<255, 0>>,
        "",
        "العربية",
        "👩‍👩‍👧",
        "日本語",
        "e\u0301",
        "a\0b"
      ]

      classifier = compile(for {term, n} <- Enum.with_index(terms), do: {term, "thing #{n}"})
      assert {:ok, read} = classifier |> Classifier.to_binary() |> Classifier.from_binary(@opts)
      assert Classifier.info(read).labels == terms
    end

    test "has options of its own" do
      binary = Classifier.to_binary(compile(["dog", "cat"], top_k: 1))
      {:ok, read} = Classifier.from_binary(binary, [scores: :logits] ++ @opts)
      assert [%{score: logit}, _] = classify(read)
      assert logit > 1.0

      {:ok, read} = Classifier.from_binary(binary, [token: "hf_canary"] ++ @opts)
      refute inspect(read, structs: false) =~ "hf_canary"
    end

    test "has no labels that mean nothing elsewhere" do
      for label <- [self(), make_ref(), fn -> 1 end, &String.length/1, [{1, %{a: self()}}]] do
        assert_raise ArgumentError, ~r/^expected labels of plain data, got processes/, fn ->
          Classifier.to_binary(compile([{label, "a dog"}]))
        end
      end
    end
  end

  test "a classifier whose labels take far more memory than bytes is not written" do
    classifier = compile([{List.duplicate(0, 200_000), "a dog"}])

    assert_raise ArgumentError, ~r/^expected labels that take about as much memory/, fn ->
      Classifier.to_binary(classifier)
    end
  end

  describe "the wrong model" do
    test "is one with embeddings of another length" do
      binary = Classifier.to_binary(compile(["dog"]))
      other = {:local, "test/fixtures/checkpoints/laion-b32"}

      assert {:error, %Error{reason: :wrong_model, message: message}} =
               Classifier.from_binary(binary, repo: other, device: :cpu)

      assert message =~ ~r/compiled for "emoji-clip" at local-\w+ \(128 dimensions\)/
      assert message =~ ~r/goes to "laion-b32" at local-\w+ \(12 dimensions\)/
    end

    @tag :tmp_dir
    test "is one with the same sizes and other weights", %{tmp_dir: folder} do
      binary = Classifier.to_binary(compile(["dog", "cat"]))
      [same, other] = for name <- ["same", "other"], do: Path.join(folder, name)
      for copy <- [same, other], do: File.cp_r!("priv/models/emoji-clip", copy)
      turn_texts(Path.join(other, "model.safetensors"))

      assert {:error, %Error{reason: :wrong_model}} =
               Classifier.from_binary(binary, repo: {:local, other}, device: :cpu)

      # What a model is called does not make it another one.
      assert {:ok, read} = Classifier.from_binary(binary, repo: {:local, same}, device: :cpu)
      assert Classifier.info(read).model.name == "same"
      assert ZeroShot.label(@dog, read) == "dog"

      for copy <- [same, other], do: ZeroShot.unload(repo: {:local, copy}, device: :cpu)
    end
  end

  describe "what is no classifier" do
    setup do
      classifier = compile(["dog", "cat", "犬"])
      # Options that say only which model: what is read is compared with it last.
      %{binary: Classifier.to_binary(classifier)}
    end

    test "is refused", %{binary: binary} do
      <<@magic, hash::binary-size(16), data::binary>> = binary

      for other <- [
            "",
            "no classifier",
            @magic,
            String.replace(binary, "classifier 1", "classifier 2"),
            hash <> data,
            data,
            binary <> <<0>>,
            nil,
            :erlang.binary_to_term(data),
            compile(["dog"])
          ],
          do: assert_refused(other)
    end

    test "may have lost or changed any bit", %{binary: binary} do
      :rand.seed(:exsss, {1, 2, 3})
      bits = bit_size(binary)
      far = for _ <- 1..400, do: 1_599 + :rand.uniform(bits - 1_600)

      for bit <- Enum.to_list(0..1_599) ++ far do
        {before, <<byte, rest::binary>>} = :erlang.split_binary(binary, div(bit, 8))
        flipped = Bitwise.bxor(byte, Bitwise.bsl(1, rem(bit, 8)))
        assert_refused(<<before::binary, flipped, rest::binary>>)
      end

      for part <- 0..63,
          do: assert_refused(binary_part(binary, 0, div(byte_size(binary) * part, 64)))
    end

    test "may have a right hash, and be another term", %{binary: binary} do
      kept = kept(binary)
      assert {:ok, _} = Classifier.from_binary(pack(kept), @opts)

      for term <- [nil, [], %{}, {kept}, Map.to_list(kept), Map.put(kept, :more, 1)],
          do: assert_refused(pack(term))

      for key <- Map.keys(kept) do
        assert_refused(pack(Map.delete(kept, key)))

        # A template may be nothing but the label, and a calibration is rare.
        for value <- [nil, "", 0, [nil], {}, %{}, <<1::1>>],
            {key, value} not in [template: [nil], calibration: nil],
            do: refused_with(kept, key, value)

        # A struct is asked by its module, of which nothing says that it can answer.
        assert_refused(kept |> Map.delete(key) |> Map.put(:__struct__, URI) |> pack())
      end
    end

    test "may have a right hash, and parts that do not fit", %{binary: binary} do
      kept = kept(binary)
      {prompt, row} = kept.probe
      table = %{accuracy: 0.5, ece: 0.1, bins: []}

      calibration = %{
        logit_scale: 20.0,
        temperature: 0.05,
        threshold: nil,
        other: nil,
        examples: 9,
        before: table,
        after: table
      }

      assert {:ok, _} =
               %{kept | calibration: calibration} |> pack() |> Classifier.from_binary(@opts)

      few = binary_part(kept.texts, 0, byte_size(kept.texts) - 4)
      [nan, infinite] = for bits <- [0x7FC00000, 0xFF800000], do: <<bits::32-little>>

      for {key, values} <- [
            labels: [{"dog"}, {}, ["dog", "cat", "犬"], {1, 2, self()}, {1, 2, fn -> 1 end}],
            texts: [
              few,
              <<few::binary, 0::31>>,
              kept.texts <> row,
              nan <> binary_part(kept.texts, 4, 3 * 512 - 4)
            ],
            logit_scale: [0.0, -1.0, 100, "100"],
            truncated: [[3], [-1], [0.0], [0 | 1], [nil], {0}, [2 ** 80]],
            calibration: [
              Map.delete(calibration, :before),
              Map.put(calibration, :more, 1),
              %{calibration | logit_scale: 0.0},
              %{calibration | logit_scale: 1},
              %{calibration | threshold: "0.2"},
              %{calibration | before: %{}},
              %{calibration | after: %{calibration.after | bins: [1 | 2]}},
              %{calibration | after: %{calibration.after | bins: [%{count: 1}]}}
            ],
            probe:
              [prompt, {prompt}, {nil, row}, {<<255>>, row}, {prompt, few}, {~c"a", row}] ++
                [{prompt, infinite <> binary_part(row, 4, 508)}],
            model:
              [%{kept.model | dim: 2 ** 64}, %{kept.model | dim: 0}, %{kept.model | dim: 64}] ++
                [%{kept.model | dim: 128.0}, %{kept.model | name: nil}] ++
                [%{kept.model | name: <<255>>}, %{kept.model | commit: %{}}] ++
                [Map.put(kept.model, :more, 1), Map.put(kept.model, :__struct__, URI)]
          ],
          value <- values,
          do: refused_with(kept, key, value)
    end

    test "has a bias only if its model has one", %{binary: binary} do
      kept = kept(binary)
      refute Map.has_key?(kept.model, :logit_bias)
      assert {:ok, %{model: %{logit_bias: nil}}} = Codec.decode(pack(kept))

      with_bias = put_in(kept, [:model, :logit_bias], -12.9)
      assert {:ok, %{model: %{logit_bias: -12.9}} = read} = Codec.decode(pack(with_bias))
      assert read |> Codec.encode!() |> kept() == with_bias

      for bias <- [1, "1", nil, :nan],
          do: assert_refused(put_in(kept, [:model, :logit_bias], bias) |> pack())
    end

    test "is refused before it takes memory", %{binary: binary} do
      kept = kept(binary)
      placeholder = <<109, 11::32, "placeholder">>
      whole = :erlang.term_to_binary(%{kept | labels: {"placeholder", 1, 2}})

      # Each takes eight to forty bytes for one that it is written in.
      expanding = [
        tuples: <<105, 2_000_000::32, :binary.copy(<<104, 0>>, 2_000_000)::binary>>,
        lists: <<108, 4_000_000::32, :binary.copy(<<106>>, 4_000_001)::binary>>,
        strings: <<108, 60::32, :binary.copy(<<107, 65_535::16, 0::524_280>>, 60)::binary, 106>>,
        maps: <<108, 800_000::32, :binary.copy(<<116, 0::32>>, 800_000)::binary, 106>>,
        nested:
          <<:binary.copy(<<108, 1::32>>, 600_000)::binary,
            :binary.copy(<<106>>, 600_001)::binary>>,
        numbers: <<105, 2_000_000::32, :binary.copy(<<97, 7>>, 2_000_000)::binary>>
      ]

      for {kind, term} <- expanding do
        binary = seal(String.replace(whole, placeholder, term))
        assert {:error, error} = within_heap(2_000_000, binary)
        assert error.reason == :invalid_classifier
        assert error.message =~ ~r/would take \d+ bytes of memory/, "#{kind}: #{error.message}"
      end
    end

    # In a process that is killed when it takes more than so many words.
    defp within_heap(words, binary) do
      {process, monitor} =
        :erlang.spawn_opt(
          fn -> exit({:answer, Classifier.from_binary(binary, @opts)}) end,
          [:monitor, max_heap_size: %{size: words, kill: true, error_logger: false}]
        )

      assert_receive {:DOWN, ^monitor, :process, ^process, reason}
      assert {:answer, answer} = reason
      answer
    end

    test "may have a right hash, and be more than data", %{binary: binary} do
      kept = kept(binary)
      bomb = :erlang.term_to_binary(List.duplicate(0, 5_000_000), compressed: 9)
      assert <<131, 80, _::binary>> = bomb
      assert_refused(seal(bomb))

      # The same classifier, compressed.
      assert_refused(seal(<<131, 80, _::binary>> = :erlang.term_to_binary(kept, compressed: 9)))

      # SMALL_ATOM_UTF8_EXT of a name that nothing has, in the place of a label.
      name = "unheard_of_#{System.unique_integer([:positive])}"
      data = :erlang.term_to_binary(%{kept | labels: {"placeholder", 1, 2}})
      before = :erlang.system_info(:atom_count)
      unknown = <<119, byte_size(name), name::binary>>
      assert_refused(seal(String.replace(data, <<109, 11::32, "placeholder">>, unknown)))

      # A process of a node that nobody knows, in NEW_PID_EXT.
      process = <<88, unknown::binary, 1::32, 2::32, 3::32>>
      assert_refused(seal(String.replace(data, <<109, 11::32, "placeholder">>, process)))

      # A list that claims more than there is, and garbage.
      for data <- [<<131, 108, 0xFFFFFFFF::32, 106>>, <<131>>, "", <<131, 255>>],
          do: assert_refused(seal(data))

      assert :erlang.system_info(:atom_count) == before
      assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    end
  end

  defp refused_with(kept, key, value), do: assert_refused(pack(Map.put(kept, key, value)))

  defp assert_refused(binary) do
    assert {:error, %Error{reason: :invalid_classifier, message: message}} =
             Classifier.from_binary(binary, @opts)

    assert String.valid?(message)
  end

  defp kept(<<@magic, _hash::binary-size(16), data::binary>>), do: :erlang.binary_to_term(data)
  defp pack(term), do: term |> :erlang.term_to_binary() |> seal()
  defp seal(data), do: @magic <> :erlang.md5(data) <> data

  # The other direction for every text: f16 has its sign in the last bit of two bytes.
  defp turn_texts(path) do
    <<length::64-little, header::binary-size(length), data::binary>> = File.read!(path)

    %{"dtype" => "F16", "data_offsets" => [from, to]} =
      JSON.parse!(header)["text_projection.weight"]

    {before, data} = :erlang.split_binary(data, from)
    {weights, rest} = :erlang.split_binary(data, to - from)

    turned =
      for <<low, sign::1, high::7 <- weights>>, into: <<>>, do: <<low, 1 - sign::1, high::7>>

    File.write!(path, [<<length::64-little>>, header, before, turned, rest])
  end
end
