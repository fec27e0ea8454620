defmodule Image.ZeroShot.AbsentLibrariesTest do
  # In a VM of its own with nothing but the modules at hand: in this one, stand-ins are loaded.
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{LiveDashboard, Packaging, Telemetry}

  setup_all do
    folder = Packaging.folder!("absent-libraries")

    for module <- [LiveDashboard, Telemetry] do
      beam = :code.which(module)
      File.cp!(beam, Path.join(folder, Path.basename(beam)))
    end

    %{folder: folder}
  end

  test "metrics without Telemetry.Metrics name the dependency", %{folder: folder} do
    assert run(folder, "Image.ZeroShot.Telemetry.metrics()") =~
             ~r/\(ArgumentError\) expected telemetry_metrics to be there.*{:telemetry_metrics, /
  end

  test "a page without LiveDashboard names the dependency", %{folder: folder} do
    assert run(folder, "defmodule Page, do: use(Image.ZeroShot.LiveDashboard)") =~
             ~r/\(ArgumentError\) expected Phoenix LiveDashboard.*{:phoenix_live_dashboard, /
  end

  defp run(folder, code) do
    {output, 1} = System.cmd("elixir", ["-pa", folder, "-e", code], stderr_to_stdout: true)
    output
  end
end
