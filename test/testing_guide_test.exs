defmodule Image.ZeroShot.TestingGuideTest do
  # The guide's modules are compiled, and its tests are run, beside the stub that its application starts.
  use ExUnit.Case, async: false

  alias Image.ZeroShot.Test.Markdown

  @guide "guides/testing.md"
  @tests [MyApp.PhotosTest, MyApp.InboxTest, MyApp.ClipTest]
  @compile {:no_warn_undefined, @tests}

  setup_all do
    {config, code} =
      @guide
      |> File.read!()
      |> Markdown.blocks("elixir")
      |> Enum.split_with(fn {_line, code} -> code =~ "import Config" end)

    {modules, scripts} = Enum.split_with(code, fn {_line, code} -> code =~ "defmodule" end)
    for {line, code} <- modules, do: compile(code, line)

    on_exit(fn ->
      for module <- [MyApp.Application, MyApp.Photos | @tests] do
        :code.purge(module)
        :code.delete(module)
      end
    end)

    %{config: config, scripts: scripts}
  end

  # Not by ExUnit, which runs all that it knows when it begins.
  defp compile(code, line) do
    code =
      String.replace(code, "use ExUnit.Case, async: true", "use ExUnit.Case, register: false")

    assert [_module] = Code.compile_string(String.duplicate("\n", line) <> code, @guide)
  end

  # Starts what the guide starts, with what it configures.
  setup %{config: [{_line, config} | _]} do
    path = Path.join(System.tmp_dir!(), "testing-#{System.unique_integer([:positive])}.exs")
    File.write!(path, config)
    [my_app: [clip: clip]] = Config.Reader.read!(path)
    File.rm!(path)

    Application.put_env(:my_app, :clip, clip)
    on_exit(fn -> Application.delete_env(:my_app, :clip) end)

    start_supervised!(%{
      id: :application,
      type: :supervisor,
      start: {Module.concat(MyApp, Application), :start, [:normal, []]}
    })

    :ok
  end

  for module <- @tests do
    @tag :tmp_dir
    test "#{inspect(module)} passes", context do
      tests = unquote(module).__ex_unit__().tests
      assert tests != []

      for test <- tests do
        # Each in a process of its own, as ExUnit runs it.
        fn -> apply(test.module, test.name, [Map.take(context, [:tmp_dir])]) end
        |> alone()
        |> case do
          {:ok, _value} -> :ok
          {:raised, error, stacktrace} -> reraise error, stacktrace
        end
      end
    end
  end

  test "what is not stubbed is said as the guide says", %{scripts: scripts} do
    assert [{line, code}] = scripts
    [{call, promise}] = Markdown.script(code)

    outcome =
      case alone(fn -> Code.eval_string(call) end) do
        {:raised, error, _stacktrace} -> {:raised, error}
        ok -> ok
      end

    Markdown.check!(outcome, promise, "#{@guide}:#{line}")
  end

  test "the embedded model is configured by an option that exists", %{
    config: [_stub, {_, config}]
  } do
    assert config =~ "config :image_zero_shot, repo: :embedded"
    assert Image.ZeroShot.Call.Options.classify!(repo: :embedded).repo == :embedded
  end

  defp alone(call) do
    parent = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        outcome =
          try do
            {:ok, call.()}
          rescue
            error -> {:raised, error, __STACKTRACE__}
          end

        send(parent, {:outcome, self(), outcome})
      end)

    receive do
      {:outcome, ^pid, outcome} ->
        Process.demonitor(monitor, [:flush])
        outcome

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        flunk("the test ended: #{inspect(reason)}")
    end
  end
end
