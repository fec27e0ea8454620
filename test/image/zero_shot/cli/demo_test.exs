defmodule Image.ZeroShot.DemoTaskTest do
  # The standard error belongs to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Packaging, only: [root: 0]
  import Image.ZeroShot.Test.RawHTTP
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot
  alias Image.ZeroShot.CLI.Demo
  alias Image.ZeroShot.Embedding
  alias Image.ZeroShot.Test.JSON

  @moduletag :tmp_dir
  @flags ["--repo", "embedded", "--device", "cpu", "--port", "0"]

  defp start(argv \\ []) do
    test = self()
    capture_io(:stderr, fn -> send(test, {:started, Demo.start_link(@flags ++ argv)}) end)
    assert_received {:started, {:ok, server}}
    on_exit(fn -> :gen_tcp.close(server.listener) end)
    server.port
  end

  defp refused(argv) do
    test = self()
    capture_io(:stderr, fn -> send(test, {:started, Demo.start_link(argv)}) end)
    assert_received {:started, {:error, message}}
    message
  end

  defp state(port) do
    {200, %{"content-type" => "application/json"}, body} = ask(port, "GET", "/state")
    JSON.parse!(body)
  end

  defp post(port, path, fields, picture \\ nil) do
    line = URI.encode_query(fields)
    body = if picture, do: [line, "\n", picture], else: line
    {status, _headers, answer} = ask(port, "POST", path, body: body)
    {status, JSON.parse!(answer)}
  end

  defp embedding(port, picture) do
    {200, %{"embedding" => embedding, "ms" => ms}} = post(port, "/embed", [], picture)
    assert is_number(ms)
    embedding
  end

  defp sample(name), do: File.read!(Path.join("priv/samples", name))

  test "every file of the page is served with its type, and the page names no other" do
    port = start()
    {200, %{"content-type" => "text/html; charset=utf-8"}, page} = ask(port, "GET", "/")

    for [name] <- Regex.scan(~r/(?<=src="|href=")[^"]+/, page) do
      assert {200, %{"content-type" => type}, _body} = ask(port, "GET", name)
      assert type =~ ~r/css|javascript|svg/
    end

    for file <- File.ls!("priv/demo") do
      text = File.read!(Path.join("priv/demo", file))
      refute text =~ ~r/ on[a-z]+="|style="|<style|<script>|innerHTML|eval\(/, file
      # The name of the SVG format is an address that nobody opens.
      refute String.replace(text, "http://www.w3.org/2000/svg", "") =~ ~r{https?://|//[a-z]+\.},
             file
    end
  end

  describe "the state" do
    test "has the model, labels to begin with and the samples" do
      state = state(start())
      assert state["model"]["name"] == "emoji-clip"
      assert state["explains"] == true

      assert state["labels"] ==
               ~w(dog cat pizza rocket guitar) ++ ["red apple", "umbrella", "airplane"]

      assert state["template"] == "a photo of {label}"
      assert state["count"] == 10
      assert "dog.jpg" in Enum.map(state["pictures"], & &1["name"])
      # Nothing is written beside the samples.
      refute File.exists?("priv/samples/.zero_shot.index")
    end

    test "has what the flags say", %{tmp_dir: dir} do
      File.cp!("priv/samples/dog.jpg", Path.join(dir, "a dog.jpg"))
      index = Path.join(dir, "kept.index")

      argv = [
        "--pictures",
        dir,
        "--index",
        index,
        "--labels",
        "one, two",
        "--template",
        "{label}!"
      ]

      state = state(start(argv))
      assert %{"labels" => ["one", "two"], "template" => "{label}!", "count" => 1} = state
      assert File.exists?(index)
    end
  end

  describe "a picture" do
    test "is embedded and classified as by the library" do
      port = start()
      embedding = embedding(port, sample("dog.jpg"))
      expected = ZeroShot.embed(sample("dog.jpg"), repo: :embedded, device: :cpu)
      {:ok, got} = embedding |> Base.decode64!() |> Embedding.from_binary()
      assert Embedding.similarity(got, expected) > 0.9999

      fields = [label: "cat", label: "a dog", template: "{label}", embedding: embedding]
      {200, %{"results" => results}} = post(port, "/classify", fields)
      assert [%{"label" => "a dog", "score" => score}, %{"label" => "cat"}] = results

      opts = [template: nil, repo: :embedded, device: :cpu]
      [%{score: wanted} | _] = ZeroShot.classify(expected, ["cat", "a dog"], opts)

      assert_in_delta score, wanted, 1.0e-4
    end

    test "can be none of these, and templates count by name" do
      port = start()
      embedding = embedding(port, sample("dog.jpg"))

      fields = [
        label: "rocket",
        other: "a dog",
        other: "a photo",
        template: "simple_imagenet",
        embedding: embedding
      ]

      {200, %{"results" => [%{"label" => nil}, %{"label" => "rocket"}]}} =
        post(port, "/classify", fields)
    end

    test "is scored in the ways of the library" do
      port = start()
      picture = sample("dog.jpg")

      fields = [
        label: "cat",
        label: "dog",
        template: "{label}",
        embedding: embedding(port, picture)
      ]

      opts = [template: nil, repo: :embedded, device: :cpu]

      for {scores, more} <- [shares: [], alone: [multi_label: true], cosines: [scores: :cosine]] do
        {200, %{"results" => results}} = post(port, "/classify", [scores: scores] ++ fields)

        for {got, wanted} <-
              Enum.zip(results, ZeroShot.classify(picture, ["cat", "dog"], more ++ opts)) do
          assert got["label"] == wanted.label
          assert_in_delta got["score"], wanted.score, 1.0e-4
        end
      end
    end

    test "is explained as by the library" do
      port = start()
      fields = [label: "cat", label: "dog", other: "a photo", template: "{label}"]
      {200, %{"maps" => maps, "ms" => _}} = post(port, "/explain", fields, sample("dog.jpg"))
      opts = [template: nil, other: ["a photo"], repo: :embedded, device: :cpu]
      explained = ZeroShot.explain(sample("dog.jpg"), ["cat", "dog"], opts)
      assert Enum.map(maps, & &1["label"]) == Enum.map(explained, & &1.label)

      for {got, wanted} <- Enum.zip(maps, explained) do
        assert got["size"] == Tuple.to_list(wanted.size)
        assert got["box"] == Tuple.to_list(wanted.box)
        assert_in_delta got["explained"], wanted.explained, 1.0e-3
        assert Enum.map(got["contrast"], &length/1) == [4, 4, 4, 4]

        for {one, other} <-
              Enum.zip(List.flatten(got["contrast"]), List.flatten(wanted.contrast)),
            do: assert_in_delta(one, other, 1.0e-4)
      end

      assert {400, _error} = post(port, "/explain", fields)
      assert {422, _error} = post(port, "/explain", fields, "no picture")
    end

    test "of a model that explains nothing is classified all the same" do
      [model | _] = Path.wildcard("test/fixtures/families/*siglip*")
      port = start(["--repo", "./" <> model])
      assert state(port)["explains"] == false
      embedding = embedding(port, sample("dog.jpg"))
      {200, %{"results" => [_one]}} = post(port, "/classify", label: "a", embedding: embedding)

      assert {422, %{"error" => %{"reason" => "unsupported_model"}}} =
               post(port, "/explain", [label: "a"], sample("dog.jpg"))
    end

    test "that is none is an error with its reason" do
      port = start()

      assert {422, %{"error" => %{"reason" => "invalid_image"}}} =
               post(port, "/embed", [], "no picture")

      assert {400, %{"error" => %{"reason" => "wrong"}}} = post(port, "/embed", [])
      assert {413, %{"error" => _}} = post(port, "/embed", [], :binary.copy("x", 26_000_000))
    end
  end

  test "what is not as the page sends it is refused, and says what was expected" do
    port = start()
    embedding = embedding(port, sample("dog.jpg"))

    for {fields, status, words} <- [
          {[label: "a"], 400, "expected an embedding"},
          {[label: "a", embedding: "%%"], 400, "expected an embedding"},
          {[label: "a", embedding: Base.encode64("no")], 422, "bare vector"},
          {[embedding: embedding], 422, "at least one label"},
          {[label: "a", template: "no place", embedding: embedding], 400, "{label}"},
          {[label: "a", scores: "sum", embedding: embedding], 400, "shares"},
          {for(i <- 1..201, do: {:label, "#{i}"}) ++ [embedding: embedding], 400, "at most 200"},
          {for(i <- 1..201, do: {:other, "#{i}"}) ++ [label: "a", embedding: embedding], 400,
           "at most 200"},
          {[label: <<0xFF>>, embedding: embedding], 422, "UTF-8"}
        ] do
      assert {^status, %{"error" => %{"message" => message}}} = post(port, "/classify", fields)
      assert message =~ words
    end

    assert {400, _headers, _body} = ask(port, "POST", "/classify", body: "label=%zz")
    assert {400, _headers, _body} = ask(port, "POST", "/classify", body: <<0xFF, 0xFE>>)
    assert {405, %{"allow" => "POST"}, _body} = ask(port, "GET", "/classify")
  end

  describe "the strip" do
    test "is searched by words and by a picture" do
      port = start()

      {200, %{"pictures" => [best | _] = found}} =
        post(port, "/search", text: "a photo of a pizza")

      assert best["name"] == "pizza.webp"
      assert length(found) == 10
      assert found == Enum.sort_by(found, & &1["score"], :desc)

      {200, %{"pictures" => [one, other | _]}} =
        post(port, "/search", embedding: embedding(port, sample("cat.png")))

      assert one["name"] == "cat.png"
      assert other["name"] == "again/cat.png"
      assert {400, _error} = post(port, "/search", [])
    end

    test "has thumbnails and files by number and key, and nothing else", %{tmp_dir: dir} do
      port = start()
      [%{"path" => path, "name" => name} | _] = state(port)["pictures"]

      assert {200, %{"content-type" => "image/jpeg"} = headers, <<0xFF, 0xD8, _::binary>>} =
               ask(port, "GET", "/thumbnails/" <> path)

      assert headers["cache-control"] =~ "max-age"
      bytes = sample(name)

      assert {200, %{"content-type" => "image/png"}, ^bytes} =
               ask(port, "GET", "/pictures/" <> path)

      for wrong <- [
            "",
            "0",
            "0-",
            "-1-X",
            "99-X",
            "0-X",
            "1x-X",
            "../labels.txt",
            "..%2Flabels.txt",
            path <> "/.."
          ],
          do: assert({404, _headers, _body} = ask(port, "GET", "/pictures/" <> wrong))

      # Gone, damaged, and grown since the start.
      for name <- ~w(a.jpg b.jpg c.jpg),
          do: File.cp!("priv/samples/dog.jpg", Path.join(dir, name))

      port = start(["--pictures", dir])
      [gone, damaged, grown] = for picture <- state(port)["pictures"], do: picture["path"]
      File.rm!(Path.join(dir, "a.jpg"))
      File.write!(Path.join(dir, "b.jpg"), "no picture")
      File.write!(Path.join(dir, "c.jpg"), :binary.copy("x", 25_000_001))
      assert {404, _headers, _body} = ask(port, "GET", "/pictures/" <> gone)
      assert {422, _headers, _body} = ask(port, "GET", "/thumbnails/" <> damaged)
      assert {404, _headers, _body} = ask(port, "GET", "/pictures/" <> grown)

      # Reading a pipe would wait forever.
      {"", 0} = System.cmd("mkfifo", [Path.join(dir, "a.jpg")])
      assert {404, _headers, _body} = ask(port, "GET", "/pictures/" <> gone)
      assert {422, _headers, _body} = ask(port, "GET", "/thumbnails/" <> grown)
    end
  end

  test "fifty clients at once are all answered" do
    port = start()
    picture = sample("dog.jpg")

    tasks =
      for _ <- 1..50 do
        Task.async(fn ->
          fields = [label: "cat", label: "dog", embedding: embedding(port, picture)]
          {200, %{"results" => [%{"label" => "dog"} | _]}} = post(port, "/classify", fields)
        end)
      end

    assert length(await_all(tasks)) == 50
  end

  test "the task prints its address, serves, and ends when its server does" do
    test = self()

    output =
      capture_io(fn ->
        capture_io(:stderr, fn ->
          task = Task.async(fn -> Demo.run(@flags) end)
          {:links, links} = eventually_linked(task.pid)
          send(test, {:links, links})
          for supervisor <- links, supervisor != self(), do: Supervisor.stop(supervisor)
          assert await(task) == :ok
        end)
      end)

    assert output =~ ~r{The demo is at http://127\.0\.0\.1:[1-9]\d*\n}
    assert output =~ "Ctrl-C"
  end

  # The shell ends the command when the test does, whatever becomes of it.
  @until_closed ~s("$@" & read -r line; kill $!; wait $!)

  test "the command serves until it is stopped, without a terminal" do
    command = ["-c", @until_closed, "sh", "mix", "zero_shot.demo" | @flags]
    options = [:binary, :stderr_to_stdout, line: 1_000, args: command, cd: root()]
    shell = Port.open({:spawn_executable, "/bin/sh"}, options)
    port = printed_port(shell)
    assert {200, _headers, "<!doctype html>" <> _} = ask(port, "GET", "/")
    assert state(port)["count"] == 10

    Port.close(shell)
    eventually(fn -> match?({:error, _}, :gen_tcp.connect({127, 0, 0, 1}, port, [])) end)
  end

  defp printed_port(shell) do
    assert_receive {^shell, {:data, {:eol, line}}}, 120_000

    case Regex.run(~r{http://127\.0\.0\.1:(\d+)$}, line) do
      [_, port] -> String.to_integer(port)
      nil -> printed_port(shell)
    end
  end

  # The server is the last thing that the task starts.
  defp eventually_linked(task) do
    eventually(fn -> task |> Process.info(:links) |> elem(1) |> Enum.any?(&is_port/1) end)
    {:links, task |> Process.info(:links) |> elem(1) |> Enum.filter(&is_pid/1)}
  end

  describe "a flag that is wrong" do
    test "is named, with what was expected", %{tmp_dir: dir} do
      for {argv, words} <- [
            {["photos"], "expected only flags, got: photos"},
            {["--prot", "1"], "unknown flag --prot; did you mean --port?"},
            {["--port"], "expected a value after --port"},
            {["--port", "x"], "expected --port to be a number, got: x"},
            {["--port", "65536"], "from 0 to 65535, got: 65536"},
            {["--pictures", "no/such"], ~s(expected --pictures to be a folder, got: "no/such")},
            {["--pictures", dir, "--repo", "embedded"], "contains no pictures"},
            {["--index", "a.index"], "expected --pictures DIR"},
            {["--pictures", dir, "--index", "a.jpg"], "ends in .index"},
            {["--labels-file", "no.txt"], ~s("no.txt": no such file)},
            {["--template", "no place"], "expected --template to contain {label}"},
            {["--device", "toaster"], "toaster"},
            {["--precision", "f64"], "f32, bf16, f16, int8, auto, got: f64"},
            {["--repo", "./no/such"], "no/such"}
          ],
          do: assert(refused(argv) =~ words)
    end

    test "or a port that is in use says so" do
      port = start()

      assert refused(["--repo", "embedded", "--device", "cpu", "--port", "#{port}"]) =~
               "port #{port}: it is in use"
    end
  end
end
