defmodule Image.ZeroShot.ExamplesTest do
  # The single files of examples/. Those that need only this library are run; the others need packages of Hex.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Image.ZeroShot.Packaging

  @examples Path.wildcard("examples/*.exs")
  @run ~w(examples/classify.exs examples/search.exs)

  for path <- @examples do
    @path path

    test "#{path}: installs this library from its checkout first, and nothing else unless it must" do
      {install, rest} = parts(@path)
      {{:., _, [{:__aliases__, _, [:Mix]}, :install]}, _, [deps]} = install
      {deps, _binding} = Code.eval_quoted(deps, [], file: Path.expand(@path))
      assert [{:image_zero_shot, path: root} | others] = deps
      assert Path.expand(root) == File.cwd!()
      assert rest != []
      if @path in @run, do: assert(others == [])

      for {_name, requirement} <- others,
          do: assert({:ok, _} = Version.parse_requirement(requirement))
    end

    test "#{path}: says at its head how to run it" do
      assert File.read!(@path) =~ "#     elixir #{@path}\n"
    end
  end

  describe "classify.exs" do
    test "classifies a sample, or a picture against labels" do
      assert ["a dog", _, _] = labels(run("classify"))

      assert ["pizza", "dog"] =
               labels(run("classify", ["priv/samples/pizza.webp", "dog", "pizza"]))
    end

    test "suggests labels where there are none" do
      labels = labels(run("classify", ["priv/samples/dog.jpg"]))
      assert length(labels) == 10
      assert "dog" in labels
    end

    test "says what is wrong with a picture, and fails" do
      {output, reason} = failing("classify", ["priv/samples/labels.txt", "dog"])
      assert reason == {:shutdown, 1}
      assert output =~ "labels.txt"
    end
  end

  describe "search.exs" do
    test "finds the picture that a text is about, in the samples or in a folder" do
      assert ["pizza.webp", _, _, _, _] = labels(run("search"))
      assert ["cat.png"] = labels(run("search", ["priv/samples/again", "a pizza"]))
    end

    @tag :tmp_dir
    test "leaves out what is no picture, and says so", %{tmp_dir: folder} do
      File.write!(Path.join(folder, "notes.jpg"), "no picture")
      {output, reason} = failing("search", [folder, "a pizza"])
      assert reason == {:shutdown, 1}
      assert output =~ "notes.jpg"
      assert output =~ "no pictures in #{folder}"
    end

    test "asks for a folder and a text" do
      assert_raise ArgumentError, ~r/expected a folder and a text/, fn ->
        run("search", ["photos"])
      end
    end
  end

  # As its head says, with its own installation: the VM of a test cannot install.
  @tag :packaging
  @tag timeout: 600_000
  test "the examples that need no packages run as programs" do
    folder = folder!("examples")
    env = [{"MIX_INSTALL_DIR", folder}, {"MIX_ENV", nil}, {"ELIXIR_ERL_OPTIONS", flags(folder)}]

    for {path, first} <-
          Enum.zip(@run, [~r/^ *\d+\.\d %  a dog$/m, ~r/^ *\d\.\d\d  pizza.webp$/m]) do
      output = run!("elixir", [Path.join(root(), path)], cd: folder, env: env)
      assert output =~ first
    end
  end

  # Mix.install of Elixir 1.18 fetches Hex where it is missing, even if all packages are at hand.
  defp flags(folder) do
    if Path.wildcard(Path.join(Mix.path_for(:archives), "hex-*")) == [] do
      stand_in = "defmodule Hex do\n  def start, do: :ok\n  def version, do: \"2.1.0\"\nend\n"
      File.write!(Path.join(folder, "hex.ex"), stand_in)
      run!("elixirc", ["hex.ex"], cd: folder, env: [{"ELIXIR_ERL_OPTIONS", "+fnu"}])
      "+fnu -pa #{folder}"
    else
      "+fnu"
    end
  end

  defp parts(path) do
    case path |> File.read!() |> Code.string_to_quoted!(file: path) do
      {:__block__, _, [install | rest]} -> {install, rest}
    end
  end

  # In this VM, without its installation. Returns what it wrote.
  defp run(name, argv \\ []) do
    path = "examples/#{name}.exs"
    {_install, rest} = parts(path)
    before = System.argv()
    System.argv(argv)

    try do
      capture_io(fn -> Code.eval_quoted({:__block__, [], rest}, [], file: path) end)
    after
      System.argv(before)
    end
  end

  defp failing(name, argv) do
    test = self()

    output = capture_io(:stderr, fn -> send(test, {:reason, catch_exit(run(name, argv))}) end)

    assert_received {:reason, reason}
    {output, reason}
  end

  defp labels(output) do
    for line <- String.split(output, "\n", trim: true) do
      [_, number, label] = Regex.run(~r/^ *(-?\d+\.\d+)(?: %)?  (.+)$/, line)
      assert String.to_float(number) <= 100
      label
    end
  end
end
