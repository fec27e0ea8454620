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

    assert output =~
             ~r/^Which part of dog-and-pizza.png .*\n.*\n\n  dog 9\d\.\d % +pizza +\d\.\d %$/mu

    assert [_, number] = Regex.run(~r/^   (\+0\.\d\d) /m, output)
    assert String.to_float(String.trim_leading(number, "+")) > 0.05
    assert [[_, dog], [_, pizza]] = Regex.scan(~r/as a picture: (\S+)$/m, output)

    for path <- [dog, pizza],
        do: assert(<<0x89, "PNG", _::binary>> = File.read!(Path.join(root(), path)))

    assert output |> String.split("\n") |> Enum.map(&String.length/1) |> Enum.max() <= 80
  end

  test "bin/demo writes plain characters where the locale knows no others" do
    output = demo("C")
    assert output =~ ~r/^dog.jpg\n  dog +#/m
    assert output =~ ~r/^  dog 9\d\.\d % +pizza +\d\.\d %$/m
    assert List.ascii_printable?(String.to_charlist(output))
  end

  test "bin/demo draws its explanation where the terminal knows colours" do
    output = demo("C.UTF-8", [{"ELIXIR_ERL_OPTIONS", "+fnu -elixir ansi_enabled true"}])
    lines = for line <- String.split(output, "\n"), line =~ "▀", do: line
    assert length(lines) == 19
    for line <- lines, do: assert(length(String.split(line, "▀")) == 2 * 38 + 1)
    # At the dog's head, orange for the dog and blue for the pizza.
    assert [_ | _] = Regex.scan(~r/\e\[38;5;(202|208|166|172)m/, Enum.at(lines, 2))
  end

  defp demo(locale, more \\ []) do
    env = [{"LC_ALL", locale}, {"MIX_ENV", nil}, {"COLORTERM", nil} | more]
    run!(Path.join(root(), "bin/demo"), [], cd: System.tmp_dir!(), env: env)
  end
end
