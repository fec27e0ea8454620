defmodule Image.ZeroShot.DemoTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Packaging

  @moduletag :packaging
  @moduletag timeout: 600_000

  test "bin/demo gets every picture right and fits in a terminal" do
    output = demo("C.UTF-8")

    for picture <- Path.wildcard(Path.join(root(), "priv/samples/*.{jpg,png,webp}")) do
      name = Path.basename(picture)
      label = name |> Path.rootname() |> String.replace("-", " ")
      assert output =~ ~r/^#{Regex.escape(name)}\n  #{label} +█/mu
    end

    assert output =~ ~r/^  cat.png and again\/cat.png +0\.[5-9]/m
    assert output |> String.split("\n") |> Enum.map(&String.length/1) |> Enum.max() <= 80
  end

  test "bin/demo writes plain characters where the locale knows no others" do
    output = demo("C")
    assert output =~ ~r/^dog.jpg\n  dog +#/m
    assert List.ascii_printable?(String.to_charlist(output))
  end

  defp demo(locale) do
    env = [{"LC_ALL", locale}, {"MIX_ENV", nil}]
    run!(Path.join(root(), "bin/demo"), [], cd: System.tmp_dir!(), env: env)
  end
end
