defmodule Image.ZeroShot.ConsoleTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.CLI.{Output, Paths, Rows}
  alias Image.ZeroShot.Test.JSON

  describe "paths" do
    @describetag :tmp_dir

    test "are files, folders and wildcards, in the order given", %{tmp_dir: dir} do
      for name <- ~w(z.JPG a/b.png a/c.webp .hidden.jpg a/.git/d.png notes.txt),
          do: picture!(dir, name)

      File.ln_s!(".", Path.join(dir, "loop"))
      File.ln_s!("z.JPG", Path.join(dir, "link.jpeg"))
      File.ln_s!("gone", Path.join(dir, "dead.jpg"))
      at = &Path.join(dir, &1)

      assert Paths.expand([dir]) ==
               {[at.("a/b.png"), at.("a/c.webp"), at.("link.jpeg"), at.("z.JPG")], []}

      assert Paths.expand([at.("notes.txt"), at.("a/*.png"), "gone.jpg"]) ==
               {[at.("notes.txt"), at.("a/b.png"), "gone.jpg"], []}

      assert Paths.expand([at.("a*")]) == {[at.("a/b.png"), at.("a/c.webp")], []}

      empty = at.("empty")
      File.mkdir!(empty)

      assert Paths.expand([empty, at.("*.bmp")]) ==
               {[],
                [
                  ~s(#{inspect(empty)}: contains no pictures),
                  ~s(#{inspect(at.("*.bmp"))}: contains no pictures)
                ]}

      for word <- ["{a", "{a,b/c}/*.png"] do
        assert {[], [fault]} = Paths.expand([word])

        assert fault =~
                 ~s("#{word}": expected a wildcard, got one that cannot be read; close each brace)
      end
    end

    test "in a folder can have names that are not text", %{tmp_dir: dir} do
      path = picture!(dir, <<"i", 0xE9, ".gif">>)
      assert Paths.expand([dir]) == {[path], []}
    end

    test "can have a name that looks like a wildcard", %{tmp_dir: dir} do
      path = picture!(dir, "a[1]*.jpg")
      picture!(dir, "a1.jpg")
      assert Paths.expand([path]) == {[path], []}
    end
  end

  test "a row of a table has no control characters, whatever a file is called" do
    rows = Rows.new(:table, ["a\nb", "c\e[2J", <<"d", 255>>, "é"], ["dog"])
    row = &(rows |> Rows.row(&1, {:ok, [%{label: "dog", score: 0.5}]}) |> IO.iodata_to_binary())
    assert row.("a\nb") == ~S("a\nb") <> "     50.0 %  dog\n"
    assert row.("c\e[2J") == ~S("c\e[2J") <> "   50.0 %  dog\n"
    assert row.(<<"d", 255>>) == ~S("d\xFF") <> "    50.0 %  dog\n"
    assert row.("é") == "é          50.0 %  dog\n"
    # It would turn the rest of the line. Elixir 1.18 writes it as \u202E.
    assert row.("a\u202Egpj.exe") =~ ~r/^"a\\(x{202E}|u202E)gpj.exe"   50.0 %  dog\n$/
    assert Output.one_line("no \u2067\u200D\n name") == ~S(no \x{2067}\x{200D} name)
  end

  test "JSON strings are read back as they were written" do
    rows = Rows.new(:json, [], [])

    all = for(char <- 0..0x2FF, into: "", do: <<char::utf8>>) <> "\u2028\uFFFF\u{10000}\u{10FFFF}"

    row = IO.iodata_to_binary(Rows.row(rows, all, {:ok, []}))
    assert JSON.parse!(row) == %{"path" => all, "results" => []}
  end

  defp picture!(dir, name, sample \\ "dog.jpg") do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.cp!(Path.join("priv/samples", sample), path)
    path
  end
end
