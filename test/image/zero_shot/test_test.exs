defmodule Image.ZeroShot.StubTest do
  # `Image.ZeroShot.Test`, as the tests of an application use it.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.{Classifier, Embedding, Error}
  alias Image.ZeroShot.Test, as: Stub

  @clip MyApp.Clip
  @dog {:path, "priv/samples/dog.jpg"}
  @cat {:path, "priv/samples/cat.png"}
  @pixel {:rgb, <<0, 0, 0>>, 1, 1}
  @animals ["cat", "dog", "bird"]

  doctest Image.ZeroShot.Test

  setup_all do
    start_supervised!({Stub, name: @clip, repo: "openai/clip-vit-base-patch32"})
    :ok
  end

  defp by_name(pictures) do
    Stub.stub(@clip, fn {:path, path} -> pictures[Path.basename(path)] end)
  end

  defp scores(labels, opts) do
    @pixel
    |> ZeroShot.classify(labels, [serving: @clip] ++ opts)
    |> Map.new(&{&1.label, Float.round(&1.score, 4)})
  end

  defp message(call), do: Exception.message(catch_error(call.()))

  describe "a text" do
    test "is the label that wins" do
      for label <- @animals do
        Stub.stub(@clip, label)
        assert ZeroShot.label(@pixel, @animals, serving: @clip) == label
        assert %{^label => 1.0} = scores(@animals, [])
      end
    end

    test "meets labels of several words, with prompts of their own and with templates" do
      Stub.stub(@clip, "golden retriever")
      labels = ["golden gate bridge", "golden retriever", "retriever"]
      assert ZeroShot.label(@pixel, labels, serving: @clip) == "golden retriever"

      labels = %{17 => ["a puppy", "the golden retriever"], 18 => "a photo of a cat"}
      assert ZeroShot.label(@pixel, labels, serving: @clip) == 17

      for template <- ["satellite view of {label}, aerial", :openai_imagenet, nil] do
        Stub.stub(@clip, "sea")
        opts = [serving: @clip, template: template]
        assert ZeroShot.label(@pixel, ["forest", "sea"], opts) == "sea"
      end
    end

    test "that no label has a word of leaves them alike" do
      Stub.stub(@clip, "ship")
      scores = scores(["Katze", "Hund"], template: nil)
      assert scores == %{"Katze" => 0.5, "Hund" => 0.5}
    end

    test "in any script is told from others" do
      for label <- ["猫", "собака", "🐶"] do
        Stub.stub(@clip, label)
        assert ZeroShot.label(@pixel, ["cat", label, "鳥"], serving: @clip) == label
      end
    end
  end

  describe "scores" do
    test "come back as they are said" do
      told = %{"cat" => 0.25, "dog" => 0.7, "bird" => 0.05}
      Stub.stub(@clip, told)
      assert scores(@animals, []) == told
      assert scores(["person" | @animals], []) == Map.put(told, "person", 0.0)
      assert scores(@animals, template: ["a drawing of {label}", "{label} on a photo"]) == told
      assert scores(@animals, logit_scale: 20) == told
    end

    test "of one sure label and of twenty come back" do
      Stub.stub(@clip, %{"cat" => 0, "dog" => 1})
      assert scores(@animals, []) == %{"cat" => 0.0, "dog" => 1.0, "bird" => 0.0}

      labels = for i <- 1..20, do: "label #{<<?a + i>>}#{i}"
      Stub.stub(@clip, Map.new(labels, &{&1, 0.05}))
      assert scores(labels, []) == Map.new(labels, &{&1, 0.05})
    end

    test "of labels that share words come back" do
      told = %{"black cat" => 0.5, "white cat" => 0.3, "cat" => 0.2}
      Stub.stub(@clip, told)
      assert scores(Map.keys(told), []) == told
    end

    test "follow the options of the call" do
      Stub.stub(@clip, %{"cat" => 0.25, "dog" => 0.7, "bird" => 0.05})
      assert scores(@animals, top_k: 1) == %{"dog" => 0.7}
      assert scores(@animals, min_score: 0.2) == %{"cat" => 0.25, "dog" => 0.7}
      assert ZeroShot.label(@pixel, @animals, serving: @clip, min_score: 0.8) == nil
    end

    test "of independent labels come back with multi_label: true" do
      told = %{"person" => 0.95, "dog" => 0.8, "cat" => 0.0}
      Stub.stub(@clip, told)
      labels = ["bird" | Map.keys(told)]
      assert scores(labels, multi_label: true) == Map.put(told, "bird", 0.0)

      others = ["a photo of nothing", "a landscape"]
      assert scores(labels, multi_label: true, other: others) == Map.put(told, "bird", 0.0)
    end

    test "of \"none of these\" come back" do
      Stub.stub(@clip, %{"dog" => 0.1, "none" => 0.9})
      assert scores(["dog", "cat"], other: "none") == %{"dog" => 0.1, "none" => 0.9, "cat" => 0.0}
      assert ZeroShot.label(@pixel, ["dog", "cat"], serving: @clip, other: "none") == "none"
      told = %{"dog" => 0.2, nil => 0.45, "cat" => 0.35}
      Stub.stub(@clip, told)

      for opts <- [[], [scores: :cosine], [scores: :logits]],
          others <- [["a bird"], ["a bird", "a fish", "a tree"]],
          do: assert(scores(["dog", "cat"], [other: others] ++ opts) == told)
    end

    test "of SigLIP's sigmoid come back" do
      siglip = __MODULE__.Siglip
      start_supervised!({Stub, name: siglip, logit_bias: -16.5})
      told = %{"person" => 0.95, "dog" => 0.3, "cat" => 0.0}
      Stub.stub(siglip, told)
      labels = ["bird" | Map.keys(told)]

      for opts <- [
            [scores: :sigmoid],
            [multi_label: true],
            [multi_label: true, other: "a landscape"]
          ] do
        results = ZeroShot.classify(@pixel, labels, [serving: siglip] ++ opts)

        assert Map.new(results, &{&1.label, Float.round(&1.score, 4)}) ==
                 Map.put(told, "bird", 0.0)
      end

      Stub.stub(siglip, %{"dog" => -3.25})

      assert [%{score: score}] =
               ZeroShot.classify(@pixel, ["dog"], serving: siglip, scores: :logits)

      assert_in_delta score, -3.25, 1.0e-3
    end

    test "of cosines and logits come back" do
      Stub.stub(@clip, %{"dog" => 0.31, "cat" => 0.22})
      assert scores(["dog", "cat"], scores: :cosine) == %{"dog" => 0.31, "cat" => 0.22}
      Stub.stub(@clip, %{"dog" => 31.5, "cat" => -2})
      assert %{"dog" => 31.5, "cat" => -2.0} = scores(["dog", "cat"], scores: :logits)
    end

    test "hold for a classifier" do
      Stub.stub(@clip, %{"cat" => 0.25, "dog" => 0.75})
      classifier = ZeroShot.classifier(["cat", "dog"], serving: @clip, template: "my {label}")
      assert scores(classifier, []) == %{"cat" => 0.25, "dog" => 0.75}

      {:ok, again} =
        classifier |> Classifier.to_binary() |> Classifier.from_binary(serving: @clip)

      assert scores(again, []) == %{"cat" => 0.25, "dog" => 0.75}
    end

    test "that no call can return are mistakes" do
      Stub.stub(@clip, %{"dog" => 0.8})

      assert message(fn -> scores(@animals, []) end) =~
               "sum to 1.0, as with scores: :softmax, got: 0.8;"

      Stub.stub(@clip, %{"dog" => 1.5, "cat" => -0.5})
      assert message(fn -> scores(@animals, []) end) =~ "from 0 to 1 with scores: :softmax, got: "
      Stub.stub(@clip, %{"dog" => 0.5, "a dog" => 0.5})
      assert message(fn -> scores(@animals, []) end) =~ "have the same words"
      Stub.stub(@clip, %{17 => 1.0})

      assert message(fn -> scores(%{17 => "a dog"}, []) end) =~
               "to be texts, got: 17; for a label with"

      Stub.stub(@clip, %{"dog" => 0.9, "cat" => 0.9})
      assert message(fn -> scores(@animals, scores: :cosine) end) =~ "no picture has these scores"
    end
  end

  describe "an answer" do
    test "of another kind is a mistake where it is given" do
      for answer <- [
            nil,
            :dog,
            "",
            <<255>>,
            %{},
            %{"dog" => "1"},
            {:error, :no},
            1,
            fn -> "dog" end
          ] do
        assert message(fn -> Stub.stub(@clip, answer) end) =~
                 ~r/^expected a stub to say what a picture shows: a text such as "dog", at most 100/
      end

      Stub.stub(@clip, fn _picture -> :dog end)
      assert message(fn -> scores(@animals, []) end) =~ "expected a stub to say"
    end

    test "of the last stub counts" do
      Stub.stub(@clip, "cat")
      Stub.stub(@clip, "dog")
      assert ZeroShot.label(@pixel, @animals, serving: @clip) == "dog"
    end

    test "can be an error, of any call" do
      error = %Error{reason: :overloaded, message: "the serving is full"}
      Stub.stub(@clip, {:error, error})
      assert ZeroShot.try_classify(@dog, @animals, serving: @clip) == {:error, error}

      assert ZeroShot.try_similarity(@dog, @cat, serving: @clip) |> elem(1) |> Map.get(:reason) ==
               :overloaded

      assert ZeroShot.try_classifier(@animals, serving: @clip) == {:error, error}

      assert ZeroShot.try_embed_text("dog", serving: @clip) == {:error, error}

      assert_raise Error, "the serving is full", fn ->
        ZeroShot.label(@dog, @animals, serving: @clip)
      end
    end
  end

  test "similarity compares what two pictures show" do
    by_name(%{"dog.jpg" => "brown dog", "cat.png" => "cat", "pizza.webp" => "dog"})
    pizza = {:path, "priv/samples/pizza.webp"}
    assert_in_delta ZeroShot.similarity(@dog, @dog, serving: @clip), 1.0, 1.0e-5
    assert ZeroShot.similarity(@dog, pizza, serving: @clip) > 0.5
    assert ZeroShot.similarity(@dog, @cat, serving: @clip) < 0.3
  end

  describe "embeddings" do
    test "of pictures and of texts find each other" do
      by_name(%{"dog.jpg" => "dog", "cat.png" => "cat"})
      [dog, cat] = ZeroShot.embed([@dog, @cat], serving: @clip)
      brown = ZeroShot.embed_text("a photo of a brown dog", serving: @clip)
      assert Embedding.dim(dog) == 512
      assert {dog.kind, brown.kind, dog.model} == {:picture, :text, "stub"}
      assert Embedding.similarity(dog, brown) > 0.5
      assert Embedding.similarity(cat, brown) < 0.3
      assert ZeroShot.embed_text("dog", serving: @clip).vector == dog.vector
    end

    test "are the same in every test, and are classified without a stub" do
      dog =
        Task.async(fn ->
          Stub.stub(@clip, "dog")
          @dog |> ZeroShot.embed(serving: @clip) |> Embedding.to_binary()
        end)

      {:ok, dog} = dog |> Task.await() |> Embedding.from_binary()
      Stub.stub(@clip, "cat")
      classifier = ZeroShot.classifier(@animals, serving: @clip)
      assert ZeroShot.label(dog, classifier, serving: @clip) == "dog"
      assert ZeroShot.label(dog, @animals, serving: @clip) == "dog"
      assert Stub.calls(@clip) |> Keyword.keys() |> Enum.uniq() == [:texts]
    end

    test "of scores show all of it, by weight" do
      Stub.stub(@clip, %{"dog" => 0.9, "person" => 0.5})
      picture = ZeroShot.embed(@pixel, serving: @clip)

      [dog, person, cat] =
        for text <- ["dog", "person", "cat"],
            do: Embedding.similarity(picture, ZeroShot.embed_text(text, serving: @clip))

      assert dog > person and person > 0.3 and cat < 0.3
    end

    test "of many pictures stream" do
      by_name(%{"dog.jpg" => "dog", "cat.png" => "cat"})
      pictures = [@dog, {:path, "no.jpg"}, @cat]

      assert [{@dog, {:ok, %Embedding{}}}, {_, {:error, %Error{}}}, {@cat, {:ok, %Embedding{}}}] =
               pictures |> ZeroShot.embed_many(serving: @clip) |> Enum.to_list()
    end

    test "of pictures make labels" do
      by_name(%{"dog.jpg" => "scratched screen", "cat.png" => "screen"})
      labels = %{bad: [{:picture, @dog}], good: [{:picture, @cat}]}
      classifier = ZeroShot.classifier(labels, serving: @clip)
      assert ZeroShot.label(@dog, classifier, serving: @clip) == :bad
      assert ZeroShot.label(@cat, classifier, serving: @clip) == :good
    end
  end

  test "many pictures are answered one by one, and failures stay in their place" do
    gone = %Error{reason: :timeout, message: "too late"}
    by_name(%{"dog.jpg" => "dog", "cat.png" => "cat", "pizza.webp" => {:error, gone}})

    pictures =
      for name <- ["dog.jpg", "pizza.webp", "no.jpg", "cat.png"],
          do: {:path, "priv/samples/#{name}"}

    assert [
             {_, {:ok, [%{label: "dog"}]}},
             {_, {:error, ^gone}},
             {_, {:error, missing}},
             {_, {:ok, cats}}
           ] =
             pictures
             |> ZeroShot.classify_many(@animals, serving: @clip, top_k: 1)
             |> Enum.to_list()

    assert missing.reason == :not_found
    assert [%{label: "cat"}] = cats
    assert length(for {:picture, _} <- Stub.calls(@clip), do: 1) == 3
  end

  describe "arguments are checked as by a real serving:" do
    setup do: Stub.stub(@clip, "dog")

    # The same call, to the small model that comes with the library.
    defp same!(call) do
      [stub, real] =
        for model <- [[serving: @clip], [repo: :embedded, device: :cpu]] do
          try do
            call.(model)
          rescue
            error -> {error.__struct__, Exception.message(error)}
          end
        end

      assert stub == real
      assert {module, _message} = stub
      assert module in [ArgumentError, :error]
    end

    test "options" do
      same!(&ZeroShot.classify(@pixel, @animals, [topk: 1] ++ &1))
      same!(&ZeroShot.classify(@pixel, @animals, [top_k: 0] ++ &1))
      same!(&ZeroShot.similarity(@pixel, @pixel, [template: nil] ++ &1))
      same!(&ZeroShot.embed(@pixel, [top_k: 1] ++ &1))
      same!(&ZeroShot.try_embed_text(["dog", <<255>>], &1))
      same!(&ZeroShot.classify(@pixel, @animals, [multi_label: true, scores: :cosine] ++ &1))
    end

    test "labels" do
      for labels <- [[], :dog, [1], ["dog", <<255>>], %{"dog" => []}, ["dog" | "cat"]],
          do: same!(&ZeroShot.try_classify(@pixel, labels, &1))

      same!(&ZeroShot.try_classify(@pixel, @animals, [max_labels: 2] ++ &1))
    end

    test "pictures" do
      for picture <- ["no picture", {:path, "no.jpg"}, {:rgb, "abc", 2, 2}, :picture, "dog.jpg"],
          do: same!(&ZeroShot.try_classify(picture, @animals, &1))

      same!(&ZeroShot.try_classify(@dog, @animals, [max_bytes: 10] ++ &1))
      same!(&ZeroShot.try_classify(@dog, @animals, [max_pixels: 10] ++ &1))
    end

    test "none of these is a call" do
      ZeroShot.try_classify(@pixel, [], serving: @clip)
      ZeroShot.try_classify("no picture", @animals, serving: @clip)
      assert Stub.calls(@clip) == []
    end
  end

  describe "a stub belongs to its process:" do
    # A process that no test started.
    defp stranger(call) do
      test = self()
      pid = spawn(fn -> receive do: (:go -> send(test, {:told, outcome(call)})) end)
      on_exit(fn -> Process.exit(pid, :kill) end)
      pid
    end

    defp outcome(call) do
      {:ok, call.()}
    rescue
      error -> {:raised, error}
    end

    defp told(pid) do
      send(pid, :go)
      assert_receive {:told, outcome}
      outcome
    end

    defp label, do: ZeroShot.label(@pixel, @animals, serving: @clip)

    test "without one a call raises, and says what to do" do
      for call <- [
            &label/0,
            fn -> ZeroShot.classifier(@animals, serving: @clip) end,
            fn -> Stub.calls(@clip) end
          ] do
        assert_raise ArgumentError,
                     ~r/^nothing is stubbed for MyApp.Clip in the process #PID/,
                     call
      end

      stream = ZeroShot.classify_many([@pixel], @animals, serving: @clip)
      assert_raise ArgumentError, ~r/^nothing is stubbed/, fn -> Enum.to_list(stream) end
    end

    test "tests at the same time have their own" do
      [one, two] =
        for label <- ["cat", "bird"] do
          Task.async(fn ->
            Stub.stub(@clip, label)
            {label(), length(Stub.calls(@clip))}
          end)
        end

      assert {Task.await(one), Task.await(two)} == {{"cat", 2}, {"bird", 2}}
      assert_raise ArgumentError, ~r/^nothing is stubbed/, &label/0
    end

    test "tasks use that of the process that started them, a stranger does not" do
      Stub.stub(@clip, "bird")
      assert Task.await(Task.async(fn -> Task.await(Task.async(&label/0)) end)) == "bird"
      assert {:raised, %ArgumentError{}} = told(stranger(&label/0))
    end

    test "a stranger that is allowed uses it, and its calls count" do
      Stub.stub(@clip, "bird")
      stranger = stranger(&label/0)
      assert Stub.allow(@clip, self(), stranger) == :ok
      assert told(stranger) == {:ok, "bird"}
      assert [{:picture, @pixel}, {:texts, _}] = Stub.calls(@clip)
    end

    test "a stranger belongs to one test" do
      Stub.stub(@clip, "bird")
      stranger = stranger(&label/0)
      assert_raise ArgumentError, ~r/has no stub/, fn -> Stub.allow(@clip, stranger, self()) end
      Stub.allow(@clip, self(), stranger)

      Task.async(fn ->
        Stub.stub(@clip, "cat")

        assert_raise ArgumentError, ~r/is allowed the stub of/, fn ->
          Stub.allow(@clip, self(), stranger)
        end
      end)
      |> Task.await()

      own = stranger(fn -> Stub.stub(@clip, "cat") && label() end)
      assert told(own) == {:ok, "cat"}
    end

    test "it is gone with its owner, and what it allowed too" do
      stranger = stranger(&label/0)

      {owner, monitor} =
        spawn_monitor(fn ->
          Stub.stub(@clip, "cat")
          Stub.allow(@clip, self(), stranger)
        end)

      assert_receive {:DOWN, ^monitor, :process, ^owner, :normal}
      assert {:raised, %ArgumentError{message: message}} = told(stranger)
      assert message =~ "nothing is stubbed"
    end
  end

  describe "a shared stub" do
    setup do
      start_supervised!({Stub, name: __MODULE__.Shared})
      :ok
    end

    test "answers every process without one of its own, while its owner lives" do
      shared = __MODULE__.Shared
      label = fn -> ZeroShot.label(@pixel, @animals, serving: shared) end

      assert_raise ArgumentError, ~r/call Image.ZeroShot.Test.stub\/2 first/, fn ->
        Stub.share(shared)
      end

      owner = spawn(fn -> receive do: (:stop -> :ok) end)
      Stub.stub(shared, "bird")
      Stub.share(shared)
      assert told(stranger(label)) == {:ok, "bird"}

      own =
        stranger(fn ->
          Stub.stub(shared, "cat") && {label.(), outcome(fn -> Stub.share(shared) end)}
        end)

      assert {:ok, {"cat", {:raised, %ArgumentError{message: message}}}} = told(own)
      assert message =~ "shares its stub for #{inspect(shared)} already"
      send(owner, :stop)
    end
  end

  describe "a stub in place of a serving" do
    test "takes the options of one, and checks them" do
      assert message(fn -> Stub.start_link(name: :x, max_batches: 1) end) =~
               "did you mean :max_batch?"

      assert message(fn -> Stub.start_link(name: :x, dim: 1) end) =~ "from 64 to 16384"
      assert message(fn -> Stub.start_link([]) end) =~ "expected :name to be"
    end

    test "is started once for each name" do
      Process.flag(:trap_exit, true)
      assert {:error, {:already_started, _}} = Stub.start_link(name: @clip)
    end

    test "is described, loaded and without libtorch" do
      assert ZeroShot.load(serving: @clip) == :ok

      assert {:ok, %{name: "stub", dim: 512, queue: %{max: 512}, state: :ready}} =
               ZeroShot.info(serving: @clip)
    end

    test "has vectors as long as asked for" do
      start_supervised!({Stub, name: __MODULE__.Small, dim: 64})
      Stub.stub(__MODULE__.Small, "dog")
      classifier = ZeroShot.classifier(["dog"], serving: __MODULE__.Small)
      assert Classifier.info(classifier).bytes == 256
    end

    test "that is not started is named" do
      assert message(fn -> Stub.stub(Elixir.NoSuch, "dog") end) ==
               "no stub of the name NoSuch is running on this node; start it with " <>
                 "{Image.ZeroShot.Test, name: NoSuch} where the application starts its serving"
    end
  end
end
