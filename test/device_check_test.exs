defmodule Image.ZeroShot.DeviceCheckTest do
  # The README's command for a machine with a GPU, on whatever machine this is.
  use ExUnit.Case, async: true

  @moduletag :packaging
  @moduletag timeout: 600_000

  test "device_check measures a device that is there, and names one that is not" do
    assert {output, 0} = device_check("cpu")
    assert output =~ ~r/image embeddings: lowest cosine to the CPU's in f32 (1\.0|0\.99999)/
    assert output =~ ~r/batch 256: +\d+\.\d pictures\/s/

    assert [command] = Regex.run(~r/^cargo run .*device_check.* cuda$/m, File.read!("README.md"))
    assert String.ends_with?(command, Enum.join(arguments("cuda"), " "))

    case device_check("cuda") do
      {output, 0} -> assert output =~ "on cuda:0"
      {output, _} -> assert output =~ "device cuda:0 is not available: "
    end
  end

  defp device_check(device) do
    System.cmd("cargo", ["run", "--quiet" | arguments(device)], stderr_to_stdout: true)
  end

  defp arguments(device) do
    ~w(--release --package clip_torch --example device_check -- priv/models/emoji-clip #{device})
  end
end
