defmodule Image.ZeroShot.ClassifyTaskTest do
  # The standard error belongs to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Packaging, only: [root: 0, run: 3]
  import Image.ZeroShot.Test.Captured

  alias Image.ZeroShot
  alias Image.ZeroShot.CLI.Console
  alias Image.ZeroShot.Test.JSON

  @moduletag :tmp_dir

  @flags ["--repo", "embedded", "--device", "cpu"]
  @labels ["--labels", "dog, cat ,pizza"]

  defp classify(argv, output \\ []), do: captured(fn -> Console.run(argv ++ @flags, output) end)

  defp picture!(dir, name, sample \\ "dog.jpg") do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.cp!(Path.join("priv/samples", sample), path)
    path
  end

  # RFC 4180, read back.
  defp csv!(text), do: fields(text, "", [], [])

  defp fields("", "", [], rows), do: Enum.reverse(rows)
  defp fields("\"" <> rest, "", row, rows), do: quoted(rest, "", row, rows)
  defp fields("," <> rest, field, row, rows), do: fields(rest, "", [field | row], rows)

  defp fields("\r\n" <> rest, field, row, rows),
    do: fields(rest, "", [], [Enum.reverse([field | row]) | rows])

  defp fields(<<byte, rest::binary>>, field, row, rows),
    do: fields(rest, field <> <<byte>>, row, rows)

  defp quoted("\"\"" <> rest, field, row, rows), do: quoted(rest, field <> "\"", row, rows)
  defp quoted("\"" <> rest, field, row, rows), do: fields(rest, field, row, rows)

  defp quoted(<<byte, rest::binary>>, field, row, rows),
    do: quoted(rest, field <> <<byte>>, row, rows)

  describe "a table" do
    test "has a line for each picture, aligned, and the three best labels" do
      argv = [
        "priv/samples/dog.jpg",
        "priv/samples/pizza.webp",
        "--labels",
        "a dog, a cat, a pizza, x"
      ]

      assert {:ok, shown, ""} = classify(argv)
      assert [dog, pizza, ""] = String.split(shown, "\n")

      assert dog =~
               ~r/^priv\/samples\/dog.jpg     (100| 99)\.\d %  a dog  ( +\d+\.\d %  (a cat|a pizza|x) *){2}$/

      assert pizza =~ ~r/^priv\/samples\/pizza.webp  (100| 99)\.\d %  a pizza   +\d/
      columns = for line <- [dog, pizza], do: Regex.scan(~r/%/, line, return: :index)
      assert [[[{_, 1}], [_], [_]] = same, same] = columns
    end

    test "takes --top, and shows a dash if every label is below --min-score" do
      assert {:ok, shown, ""} = classify(["priv/samples/dog.jpg", "--top", "1"] ++ @labels)
      assert shown =~ ~r/^priv\/samples\/dog.jpg  +\d+\.\d %  dog\n$/

      argv = ["priv/samples/dog.jpg", "--multi-label", "--min-score", "1"] ++ @labels
      assert {:ok, "priv/samples/dog.jpg  -\n", ""} = classify(argv)
    end
  end

  describe "what fails" do
    test "is reported on the standard error, and the rest goes on" do
      argv =
        ["gone.jpg", "priv/samples/labels.txt", "priv/samples/dog.jpg", "no/*.jpg"] ++ @labels

      assert {{:error, message}, shown, told} = classify(argv)

      assert message ==
               "2 of 3 could not be classified, and 1 folder or wildcard gave no pictures; " <>
                 "the reasons are above"

      assert shown =~ ~r/^priv\/samples\/dog.jpg  +\d+\.\d %  dog [^\n]*\n$/

      assert [none, gone, no_picture, ""] = String.split(told, "\n")
      assert none == ~s("no/*.jpg": contains no pictures)
      assert gone == ~s("gone.jpg": no such file)
      assert no_picture =~ ~s("priv/samples/labels.txt": picture is not an image)
    end

    test "for every picture is one line" do
      assert {{:error, message}, "", ""} = classify(["priv/samples", "--labels-file", "gone.txt"])

      assert message ==
               ~s(expected --labels-file to be a file with labels; "gone.txt": no such file)

      assert {{:error, message}, "", ""} =
               classify(["priv/samples", "--labels", "priv/samples/labels.txt"])

      assert message ==
               "expected labels after --labels, got the file priv/samples/labels.txt; give --labels-file"

      too_long = String.duplicate("x", 5_000)
      assert {{:error, message}, "", ""} = classify(["priv/samples", "--labels", too_long])
      assert message =~ "label at index 0 has 5000 bytes"

      test = self()
      argv = ["priv/samples/dog.jpg", "--repo", "./no/such/model"] ++ @labels
      capture_io(fn -> send(test, Console.run(argv)) end)
      assert_received {:error, message}
      assert message =~ Path.expand("no/such/model") and not (message =~ "\n")
    end
  end

  describe "json" do
    test "is an object in each line, with all labels, or the error", %{tmp_dir: dir} do
      names = [~s(a "b" \\ c.jpg), "d\ne\tf.jpg", "ünï 🐕.jpg", <<"g", 0xE9, ".jpg">>]
      paths = Enum.map(names, &picture!(dir, &1))
      argv = paths ++ ["gone.jpg", "--format", "json", "--labels", ~s("best" dog,cät)]
      assert {{:error, _}, shown, told} = classify(argv)
      assert told == ~s("gone.jpg": no such file\n)
      assert for(<<byte <- shown>>, byte > 126, do: byte) == []
      objects = shown |> String.split("\n", trim: true) |> Enum.map(&JSON.parse!/1)

      for {object, path} <- Enum.zip(objects, paths) do
        given = object["path_base64"]
        assert if(given, do: Base.decode64!(given), else: object["path"]) == path
        assert given == nil or object["path"] == Path.join(dir, "g\uFFFD.jpg")

        labels =
          for %{"label" => label, "score" => score} when is_float(score) <- object["results"],
              do: label

        assert Enum.sort(labels) == [~s("best" dog), "cät"]
      end

      assert List.last(objects) == %{
               "path" => "gone.jpg",
               "error" => %{"reason" => "not_found", "message" => ~s("gone.jpg": no such file)}
             }

      assert length(objects) == 5
    end

    test "has the scores that classify returns" do
      argv = ["priv/samples/dog.jpg", "--format", "json", "--top", "2"] ++ @labels
      assert {:ok, shown, ""} = classify(argv)

      given =
        for %{"label" => label, "score" => score} <- JSON.parse!(shown)["results"],
            do: {label, score}

      opts = [repo: :embedded, device: :cpu, top_k: 2]
      expected = ZeroShot.classify({:path, "priv/samples/dog.jpg"}, ["dog", "cat", "pizza"], opts)

      for {{label, score}, %{label: same, score: other}} <- Enum.zip(given, expected) do
        assert label == same
        assert_in_delta score, other, 1.0e-5
      end
    end
  end

  describe "csv" do
    test "has a line for each label, or the error, and paths byte by byte", %{tmp_dir: dir} do
      names = [~s(a "b", c.jpg), "d\r\ne.jpg", "ünï 🐕.jpg", <<"g", 0xE9, ".jpg">>, " h.jpg"]
      paths = Enum.map(names, &picture!(dir, &1))
      argv = paths ++ ["gone.jpg", "--format", "csv"] ++ @labels
      test = self()

      # Latin-1 is what leaves bytes alone.
      capture_io(:stderr, fn ->
        shown = capture_io([encoding: :latin1], fn -> Console.run(argv ++ @flags) end)
        send(test, {:shown, shown})
      end)

      assert_received {:shown, shown}
      assert [["path", "label", "score", "error"] | rows] = csv!(as_bytes(shown))
      assert Enum.all?(rows, &(length(&1) == 4))
      {[failed], rows} = Enum.split_with(rows, &(hd(&1) == "gone.jpg"))
      assert failed == ["gone.jpg", "", "", ~s("gone.jpg": no such file)]
      assert rows |> Enum.map(&hd/1) |> Enum.uniq() == paths

      for [_path, label, score, ""] <- rows do
        assert label in ["dog", "cat", "pizza"] and String.to_float(score) <= 1.0
      end

      assert length(rows) == 15
    end

    test "of a picture without a label that is high enough is one line" do
      argv = ["priv/samples/dog.jpg", "--format", "csv", "--min-score", "1"] ++ @labels
      assert {:ok, shown, ""} = classify(argv)
      assert shown == "path,label,score,error\r\npriv/samples/dog.jpg,,,\r\n"
    end

    # Some versions of StringIO return characters for bytes.
    defp as_bytes(shown) do
      case :unicode.characters_to_binary(shown, :utf8, :latin1) do
        bytes when is_binary(bytes) -> bytes
        _bytes_already -> shown
      end
    end
  end

  describe "flags" do
    test "give labels, several times and from files", %{tmp_dir: dir} do
      file = Path.join(dir, "labels.txt")
      File.write!(file, "\uFEFFcat, black\r\n\n  pizza \n")

      argv = [
        "priv/samples/dog.jpg",
        "--labels",
        "dog,,",
        "--labels-file",
        file,
        "--labels",
        "car"
      ]

      assert {:ok, shown, ""} = classify(argv ++ ["--format", "json"])
      labels = for %{"label" => label} <- JSON.parse!(shown)["results"], do: label
      assert Enum.sort(labels) == ["car", "cat, black", "dog", "pizza"]
    end

    test "give templates, by name too" do
      for templates <- [["{label}"], ["a {label}", "the {label}"], ["simple_imagenet"]] do
        flags = Enum.flat_map(templates, &["--template", &1])
        assert {:ok, shown, ""} = classify(["priv/samples/dog.jpg" | flags] ++ @labels)
        assert shown =~ "dog"
      end
    end

    test "choose scores, and a label for none of these" do
      argv = ["priv/samples/pizza.webp", "--labels", "dog,cat", "--other", "pizza"]
      assert {:ok, shown, ""} = classify(argv)
      assert shown =~ ~r/^priv\/samples\/pizza.webp +\d+\.\d %  pizza /

      argv = ["priv/samples/dog.jpg", "--labels", "dog,cat", "--scores"]

      for {scores, least} <- [{"cosine", "0.1"}, {"logits", "-40"}] do
        assert {:ok, shown, ""} = classify(argv ++ [scores, "--min-score", least])
        assert shown =~ ~r/^priv\/samples\/dog.jpg + \d+\.\d{4}  dog/
      end

      assert {{:error, message}, "", ""} = classify(argv ++ ["sigmoid"])
      assert message =~ "scores: :sigmoid asks for the probability of each label by itself"
    end

    @usage "the flags are --labels, --labels-file, --suggest, --vocabulary, --template, --top, --min-score, --multi-label, " <>
             "--scores, --other, --format, --html, --repo, --device, --precision; see mix help zero_shot.classify"

    @more " mix help zero_shot.classify lists all flags"

    @no_labels ~s(expected labels, as --labels "a dog, a cat" or --labels-file FILE; without any, use --suggest)

    test "that are unknown or wrong are an error before any work" do
      for {argv, message} <- [
            {[], ~s(expected pictures, folders or wildcards, such as "photos/*.jpg"; #{@usage})},
            {["x.jpg"], @no_labels},
            {["x.jpg", "--labels", ", ,"], @no_labels},
            {["x.jpg", "--no-suggest"], @no_labels},
            {["x.jpg", "--quiet"], "unknown flag --quiet; #{@usage}"},
            {["x.jpg", "--lables", "dog"],
             "unknown flag --lables; did you mean --labels?" <> @more},
            {["x.jpg", "--labels_file", "a"],
             "unknown flag --labels_file; did you mean --labels-file?" <> @more},
            {["x.jpg", "--sugest"], "unknown flag --sugest; did you mean --suggest?" <> @more},
            {["x.jpg", "--labels"], "expected a value after --labels"},
            {["x.jpg", "--top", "many"], "expected --top to be a number, got: many"},
            {["x.jpg", "--labels", "a", "--min-score", "50"],
             "expected --min-score to be from 0 to 1, got: 50.0"},
            {["x.jpg", "--labels", "a", "--scores", "cosine", "--min-score", "2"],
             "expected --min-score to be from -1 to 1, got: 2.0"},
            {["x.jpg", "--labels", "a", "--scores", "best"],
             "expected --scores to be one of softmax, sigmoid, logits, cosine, got: best"},
            {["x.jpg", "--labels", "a", "--scores", "logits", "--html", "x.html"],
             "expected no --scores logits together with --html, whose bars end at 1"},
            {["x.jpg", "--labels", "a", "--top", "0"],
             "expected --top to be a positive number, got: 0"},
            {["x.jpg", "--multi-label=yes"], "expected no value for --multi-label, got: yes"},
            {["x.jpg", "--labels", "a", "--format", "xml"],
             "expected --format to be table, json or csv, got: xml"},
            {["x.jpg", "--labels", "a", "--device", "gpu"],
             "expected --device to be auto, cpu, cuda, cuda:1 or mps, got: gpu"},
            {["x.jpg", "--labels", "a", "--precision", "fp16"],
             "expected --precision to be one of f32, bf16, f16, int8, auto, got: fp16"},
            {["x.jpg", "--labels", "a", "--device", "cuda:x"],
             "expected --device to be auto, cpu, cuda, cuda:1 or mps, got: cuda:x"}
          ] do
        assert Console.run(argv) == {:error, message}
      end

      for templates <- [["a photo"], ["a {label}", "a photo"]] do
        argv = ["x.jpg"] ++ @labels ++ Enum.flat_map(templates, &["--template", &1])

        assert Console.run(argv) ==
                 {:error,
                  "expected --template to contain {label} where the label goes, such as " <>
                    ~s(--template "a photo of {label}", got: a photo)}
      end

      assert Console.run(["x.jpg", "--labels", "a, b", "--other", "b"]) ==
               {:error,
                "expected --other to differ from every label, got: b; leave it out or take another name"}
    end
  end

  describe "the bar" do
    test "is drawn on a terminal, and makes room for every row" do
      argv = ["priv/samples/dog.jpg", "gone.jpg"] ++ @labels
      assert {_, shown, told} = classify(argv, columns: 60)
      refute shown =~ ~r/[\e\r]/
      none = String.duplicate(".", 24)
      assert String.starts_with?(told, "\r  0 % [#{none}]  0 of 2\e[K\r\e[K")
      assert told =~ ~s(\r\e[K"gone.jpg": no such file\n\r100 %)
      assert String.ends_with?(told, "\r\e[K")
      for line <- String.split(told, ["\r", "\n"]), do: assert(String.length(line) < 60 + 3)

      assert {_, shown, ""} = classify(argv, columns: 60, beside: :stdio)
      assert shown =~ ~r/\r\e\[Kpriv\/samples\/dog.jpg  +\d+\.\d %  dog [^\r\n]*\n\r 50 % /
      assert shown =~ ~s(\r\e[K"gone.jpg": no such file\n\r100 %)
    end
  end

  # Starts VMs, and a build that has nothing to do.
  @tag :packaging
  @tag timeout: 300_000
  test "the command writes only results to its output, and ends with a status", %{tmp_dir: dir} do
    path = picture!(dir, "ünï.jpg")
    env = [{"MIX_ENV", "test"}, {"LC_ALL", "C"}]
    script = ~S(mix zero_shot.classify "$@" 2>"$ERRORS")
    errors = Path.join(dir, "errors")
    argv = [path, "--labels", "dög, cat", "--repo", "embedded", "--format", "csv"]

    command =
      &run("sh", ["-c", script, "sh" | argv ++ &1], cd: root(), env: [{"ERRORS", errors} | env])

    assert {shown, 0} = command.([])
    assert [["path" | _], [^path, _, _, ""], [^path, _, _, ""]] = csv!(shown)
    assert shown =~ ",dög,"

    assert {shown, 1} = command.(["gone.jpg"])
    assert length(csv!(shown)) == 4
    told = File.read!(errors)
    assert told =~ ~s("gone.jpg": no such file\n)
    assert told =~ ~r/^\*\* \(Mix\) 1 of 2 could not be classified; the reasons are above\n\z/m
  end
end
