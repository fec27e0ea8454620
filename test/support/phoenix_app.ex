defmodule Image.ZeroShot.Test.PhoenixApp do
  @moduledoc false

  # The application of the guide "Phoenix", compiled and running with the embedded model.

  import ExUnit.{Assertions, Callbacks, CaptureIO}

  alias Image.ZeroShot.Serving.{Directory, Gate}
  alias Image.ZeroShot.Test.{PhoenixGuide, Pictures}

  @compile {:no_warn_undefined, [MyApp.Application, MyAppWeb.LabelController]}

  @app :image_zero_shot
  @serving {Image.ZeroShot.Serving, MyApp.Clip}

  # Their macros are Phoenix's: that the changes fit is all that can be seen here.
  @only_read ~w(lib/my_app_web/endpoint.ex lib/my_app_web/router.ex lib/my_app_web/telemetry.ex) ++
               ~w(config/prod.exs config/runtime.exs)

  @doc "The files that are not compiled."
  def only_read, do: @only_read

  @doc "To be called in `setup_all`: what was compiled, and what the compiler said."
  def start! do
    project = PhoenixGuide.project()
    before = Application.get_all_env(@app)
    Application.put_all_env([{@app, PhoenixGuide.config(project, :test)}])

    {modules, warnings} = with_io(:stderr, fn -> compile(project) end)
    start_supervised!(%{id: :my_app, start: {MyApp.Application, :start, [:normal, []]}})

    on_exit(fn ->
      for {name, _} <- Application.get_all_env(@app), do: Application.delete_env(@app, name)
      Application.put_all_env([{@app, before}])
      Enum.each(modules, &forget/1)
    end)

    %{project: project, modules: modules, warnings: warnings}
  end

  # In the order of the guide.
  defp compile(project) do
    for {path, {line, code}} <- Enum.sort_by(project, fn {_path, {line, _code}} -> line end),
        path not in @only_read,
        {module, _binary} <- Code.compile_string(code, "#{path} of the guide, line #{line}"),
        do: module
  end

  def forget(module) do
    :code.purge(module)
    :code.delete(module)
  end

  def documentation(module) do
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(module)
    text
  end

  def copy(sample), do: sample |> Pictures.sample_bytes() |> temporary()

  def temporary(bytes) do
    path = Path.join(System.tmp_dir!(), "phoenix-guide-#{System.unique_integer([:positive])}")
    File.write!(path, bytes)
    on_exit(fn -> File.rm(path) end)
    path
  end

  @doc "Posts this file to the controller."
  def create(path) do
    upload = %Plug.Upload{path: path, filename: "photo.jpg"}
    MyAppWeb.LabelController.create(%Plug.Conn{}, %{"photo" => upload})
  end

  # As many callers inside as the serving takes.
  def fill(function) do
    {_server, %{gate: gate}} = Directory.lookup({:name, MyApp.Clip})
    test = self()

    callers =
      for _ <- 1..gate.max do
        spawn_link(fn ->
          :ok = Gate.enter(gate)
          send(test, :inside)
          receive do: (:leave -> send(test, {:left, Gate.leave(gate)}))
        end)
      end

    for _ <- callers, do: assert_receive(:inside, 30_000)
    function.()
    for caller <- callers, do: send(caller, :leave)
    for _ <- callers, do: assert_receive({:left, :ok}, 30_000)
  end

  def without_serving(function) do
    :ok = Supervisor.terminate_child(MyApp.Supervisor, @serving)
    function.()
    {:ok, _server} = Supervisor.restart_child(MyApp.Supervisor, @serving)
  end
end
