defmodule Image.ZeroShot.ReadmeTest do
  # What README and guides show has to work, as it stands there. What other documents name has to exist.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.CLI.Console
  alias Image.ZeroShot.Serving.Directory
  alias Image.ZeroShot.Test.Markdown

  # Few examples are shown to be calibrated with.
  @moduletag :capture_log

  @documents ["README.md" | Path.wildcard("guides/*.md")]

  # Documents for those who work on the library.
  @inside ~w(ARCHITECTURE.md DEVELOPMENT.md SECURITY.md CHANGELOG.md) ++
            ~w(bench/README.md training/README.md native/build/README.md)

  # What `mix compile` makes.
  @built ~w(native/build/libtorch priv/libtorch priv/nif.so priv/nif_torch.so)

  # Their code has tests of its own: one needs Phoenix, the other a stub.
  @run_elsewhere ["guides/phoenix.md", "guides/testing.md"]

  # A block that begins with the name of its file is part of an application that has other libraries.
  @of_an_application ~r{\A# (lib/|priv/|test/|config/config\.exs)}

  for document <- @documents -- @run_elsewhere do
    @document document

    # A block of Elixir is run from the project's root, alone. `#=>` and `iex>` promise results.
    test "#{document}: blocks of Elixir run, and give what they promise" do
      blocks = @document |> File.read!() |> Markdown.blocks("elixir")
      assert blocks != []

      # What blocks started ends with this process, and the next document starts one of the same name.
      on_exit(fn ->
        eventually(fn -> Directory.find({:keeper, {:name, MyApp.Clip}}) == nil end)
      end)

      capture_io(fn ->
        for {line, code} <- blocks,
            not (code =~ @of_an_application),
            do: check_elixir(code, "#{@document}:#{line}")
      end)
    end
  end

  for document <- @documents do
    @document document

    test "#{document}: files of an application parse, and define the module they are named after" do
      blocks = @document |> File.read!() |> Markdown.blocks("elixir")

      for {line, code} <- blocks, [_, path] <- [Regex.run(~r{\A# (lib/\S+)}, code)] do
        assert {:ok, _} = Code.string_to_quoted(code, file: @document, line: line)
        name = path |> Path.basename(".ex") |> Macro.camelize()
        assert code =~ ~r/MyApp(Web)?\.#{name}\b/, "#{@document}:#{line} has no #{name}"
      end
    end
  end

  for document <- @documents ++ @inside do
    @document document

    test "#{document}: commands exist" do
      text = File.read!(@document)

      for language <- ~w(sh bash shell console),
          {line, code} <- Markdown.blocks(text, language) do
        for command <- String.split(code, ~r/\n|&&/, trim: true) do
          check_command(String.trim(command), "#{@document}:#{line}")
        end
      end
    end

    test "#{document}: commands in the text exist" do
      for [_, command] <- Regex.scan(~r/`(bin\/[^\s`]+)/, File.read!(@document)),
          do: assert_executable(command)
    end

    test "#{document}: links to files lead somewhere" do
      for [_, target] <- Regex.scan(~r/\]\(([^)\s]+)\)/, File.read!(@document)),
          not String.contains?(target, "://") do
        [path | _anchor] = String.split(target, "#")

        assert path == "" or File.exists?(Path.join(Path.dirname(@document), path)),
               "#{@document} links to #{target}, which does not exist"
      end
    end
  end

  for document <- ["README.md", "lib/mix/tasks/zero_shot.classify.ex"] do
    @document document

    test "#{document}: the command for the samples gives each picture its own name" do
      assert [_, flags] =
               Regex.run(~r/mix zero_shot\.classify (".*priv\/samples.*)/, File.read!(@document))

      argv = OptionParser.split(flags) ++ ["--format", "csv", "--top", "1"]
      shown = capture_io(fn -> assert Console.run(argv) == :ok end)
      [_head | rows] = String.split(shown, "\r\n", trim: true)
      assert length(rows) == length(Path.wildcard("priv/samples/*.{jpg,png,webp}"))

      for row <- rows, [path, label | _] = String.split(row, ",") do
        name = path |> Path.basename() |> Path.rootname() |> String.replace("-", " ")
        assert label == name
      end
    end
  end

  for document <- @inside do
    @document document

    test "#{document}: files and folders in the text exist" do
      folders = "bench|guides|lib|native|priv|test|training"

      for [_, path] <- Regex.scan(~r/`((?:#{folders})\/[^\s`]+)`/, File.read!(@document)),
          path not in @built do
        assert File.exists?(path), "#{@document} names #{path}, which does not exist"
      end
    end
  end

  test "ARCHITECTURE.md: modules in the text exist" do
    {:ok, modules} = :application.get_key(:image_zero_shot, :modules)
    ours = Enum.map(modules, &inspect/1)

    for [_, name] <-
          Regex.scan(~r/`((?:[A-Z]\w*\.)*[A-Z]\w*)`/, File.read!("ARCHITECTURE.md")),
        not Code.ensure_loaded?(Module.concat([name])) do
      assert Enum.any?(ours, &String.ends_with?("." <> &1, "." <> name)),
             "ARCHITECTURE.md names #{name}, which is not a module"
    end
  end

  test "every file in bin/ that is a command can be run" do
    commands = "bin/*" |> Path.wildcard() |> Enum.reject(&(Path.extname(&1) != ""))
    assert commands != []
    Enum.each(commands, &assert_executable/1)
  end

  defp check_elixir(code, place) do
    cond do
      code =~ ~r/\bdefp? deps\b|^\s*\{:image_zero_shot,/m -> check_dependency(code, place)
      code =~ ~r/^\s*(import Config|config :)/m -> check_config(code)
      code =~ ~r/^\s*iex>/m -> check_promises(Markdown.session(code), place)
      true -> check_promises(Markdown.script(code), place)
    end
  end

  # Whether the dependency builds is another test's business: it takes minutes.
  defp check_dependency(code, place) do
    [_, entry] = Regex.run(~r/(\{:image_zero_shot,[^}]*\})/s, code)
    {{:image_zero_shot, opts}, _} = Code.eval_string(entry)
    assert opts[:path] || opts[:git], "#{place}: a dependency from where?"
    assert Code.string_to_quoted!(code)
  end

  defp check_config(code) do
    code = if code =~ "import Config", do: code, else: "import Config\n" <> code
    path = Path.join(System.tmp_dir!(), "config-#{System.unique_integer([:positive])}.exs")
    File.write!(path, code)

    try do
      config = Config.Reader.read!(path, env: :prod, target: :host)
      assert Keyword.keyword?(config[:image_zero_shot])
      assert Options.classify!(config[:image_zero_shot])
    after
      File.rm(path)
    end
  end

  # In one binding, step by step.
  defp check_promises(steps, place) do
    Enum.reduce(steps, {[], Code.env_for_eval([])}, fn {code, promise}, {binding, env} ->
      {outcome, binding, env} = evaluate(code, binding, env)
      Markdown.check!(outcome, promise, place)
      {binding, env}
    end)
  end

  defp evaluate(code, binding, env) do
    quoted = Code.string_to_quoted!(code)
    {value, binding, env} = Code.eval_quoted_with_env(quoted, binding, env)
    {{:ok, value}, binding, env}
  rescue
    error -> {{:raised, error}, binding, env}
  end

  defp check_command("#" <> _comment, _place), do: :ok
  defp check_command("$ " <> command, place), do: check_command(command, place)

  defp check_command(command, place) do
    words = command |> String.replace(~r/\s#.*$/, "") |> OptionParser.split()

    case Enum.drop_while(words, &(&1 =~ ~r/^[A-Z_]+=/)) do
      [] -> flunk("#{place}: only variables are set in #{command}")
      ["export", variable] -> assert variable =~ ~r/^[A-Z_]+=/
      ["git", "clone" | _] -> :ok
      ["cd", _folder] -> :ok
      ["mix", task | _] -> assert Mix.Task.get(task), "#{place}: there is no task #{task}"
      ["iex", "-S", "mix"] -> :ok
      ["cargo", task | _] -> assert task in ~w(run test build bench)
      ["python3", script | _] -> assert File.regular?(script), "#{place}: no file #{script}"
      ["bin/" <> _ = command | _] -> assert_executable(command)
      [command | _] -> flunk("#{place}: no test knows how to check `#{command}`")
    end
  end

  defp assert_executable(command) do
    assert {:ok, %{type: :regular, mode: mode}} = File.stat(command)
    assert Bitwise.band(mode, 0o111) == 0o111, "#{command} is not executable"
  end
end
