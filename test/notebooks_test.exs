defmodule Image.ZeroShot.NotebooksTest do
  # The cells of livebooks/, on stand-ins for Kino. What installs them is Livebook's.
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Test.{Notebook, Pictures}

  @notebooks Path.wildcard("livebooks/*.livemd")
  @samples Path.expand("priv/samples")

  for path <- @notebooks do
    @path path

    test "#{path}: installs this library and Kino before anything else" do
      {setup, cells} = Notebook.cells(@path)
      assert ["# " <> _, "", "```elixir", "Mix.install([" | _] = lines(@path)
      {{:., _, [_, :install]}, _, [deps]} = Code.string_to_quoted!(setup)
      {deps, _} = Code.eval_quoted(deps, [], file: Path.expand(@path))
      assert [{:image_zero_shot, path: root}, {:kino, requirement}] = deps
      assert Path.expand(root) == File.cwd!()
      assert {:ok, _} = Version.parse_requirement(requirement)
      assert length(cells) > 5
    end

    test "#{path}: is as the formatter writes it" do
      {_setup, cells} = Notebook.cells(@path)

      for {line, code} <- cells do
        formatted = code |> Code.format_string!() |> IO.iodata_to_binary()
        assert String.trim_trailing(code) == formatted, "#{@path}:#{line}"
      end
    end

    test "#{path}: asks for the embedded model unless told otherwise" do
      assert %{attrs: %{type: :select, default: :embedded}} = hd(Notebook.run(@path))
    end
  end

  describe "classify.livemd" do
    test "shows a sample, its labels best first, and suggestions" do
      shown = run("classify")
      assert [%{content: content, mime_type: "image/jpeg"}] = all(shown, Kino.Image)
      assert content == File.read!(Path.join(@samples, "dog.jpg"))

      assert [labels, suggestions] = all(shown, Kino.DataTable)
      assert ["a dog", _, _] = Enum.map(labels.rows, & &1.label)
      assert [%{score: best, bar: bar} | _] = labels.rows
      assert best > 0.9 and String.length(bar) == round(best * 20)
      assert length(suggestions.rows) == 10
      assert "dog" in Enum.map(suggestions.rows, & &1.label)
    end

    test "takes a picture's pixels and labels from the page" do
      {pixels, height, width} = photo = photo("pizza.webp")
      inputs = %{"Picture" => upload(photo), "Labels, one a line" => " a rocket \n\na pizza"}
      shown = run("classify", inputs)
      assert [%{content: content, mime_type: "image/x-pixel"}] = all(shown, Kino.Image)
      assert content == <<height::32, width::32, 3, pixels::binary>>

      assert [%{rows: [%{label: "a pizza"}, %{label: "a rocket"}]}, _] =
               all(shown, Kino.DataTable)
    end

    test "answers while labels are typed, and when there are none" do
      [%{items: [_form, frame]}] = "classify" |> run() |> Enum.filter(&match?(%Kino.Layout{}, &1))
      assert Notebook.shown(frame) == Kino.Text.new("Change the labels.")
      assert [%{label: "a dog"}, %{label: "a cat"}] = Notebook.tell(frame, %{}).rows
      assert [%{label: "dog"}] = Notebook.tell(frame, %{labels: "dog\n"}).rows
      assert %Kino.Text{} = Notebook.tell(frame, %{labels: " \n"})
      rows = Notebook.tell(frame, %{labels: "a pizza\na rocket", none: true}).rows
      assert "none" in Enum.map(rows, & &1.label)
    end
  end

  describe "search.livemd" do
    @tag :tmp_dir
    test "finds by text and by picture, and tells what is no picture", %{tmp_dir: folder} do
      for name <- ~w(cat.png dog.jpg pizza.webp),
          do: File.cp!(Path.join(@samples, name), Path.join(folder, name))

      File.write!(Path.join(folder, "notes.jpg"), "no picture")

      inputs = %{"Folder on Livebook's machine" => folder, "Text" => "a dog"}
      shown = run("search", inputs)
      assert 4 in shown
      assert [%{rows: [%{file: "3 pictures"}, fault]}] = all(shown, Kino.DataTable)
      assert %{file: file, reason: :invalid_image} = fault
      assert Path.basename(file) == "notes.jpg"

      assert [text, picture] = Enum.filter(shown, &match?(%Kino.Layout{}, &1))
      assert [{"dog.jpg", "image/jpeg"} | others] = found(text)
      assert [{"cat.png", "image/png"} | _] = found(picture)
      assert Enum.sort(others) == [{"cat.png", "image/png"}, {"pizza.webp", "image/webp"}]
    end

    test "searches the samples by default, and by a picture from the page" do
      shown = run("search", %{"Picture" => upload(photo("rocket.png"))})
      assert [text, picture] = Enum.filter(shown, &match?(%Kino.Layout{}, &1))
      assert [{"pizza.webp", _} | _] = found(text)
      assert [{"rocket.png", _}, _, _, _] = found(picture)
    end

    defp found(%Kino.Layout{items: items}) do
      for %{items: [%Kino.Image{} = image, %Kino.Text{text: text}]} <- items do
        [name, score] = String.split(text)
        assert String.to_float(score) <= 1.0
        assert [_ | _] = for(path <- samples(name), File.read!(path) == image.content, do: path)
        {name, image.mime_type}
      end
    end

    defp samples(name), do: Path.wildcard(Path.join(@samples, "**/#{name}"))
  end

  describe "explain.livemd" do
    test "draws a map for each label, and its numbers sum to the cosine" do
      shown = run("explain")

      assert ["dog  " <> _, "pizza  " <> _] =
               for(%{text: text} <- all(shown, Kino.Text), do: text)

      assert [dog, pizza] = all(shown, Kino.Image)
      for %{content: content} <- [dog, pizza], do: assert(<<0x89, "PNG", _::binary>> = content)
      assert dog.content != pizza.content

      assert [sums, patches] = all(shown, Kino.DataTable)
      assert ["dog", "pizza"] = Enum.map(sums.rows, & &1.label)
      for row <- sums.rows, do: assert(abs(row.difference) < 1.0e-4 and row.cosine != 0)

      assert patches.name == "dog"
      assert [%{row: 1} = first, _, _, _] = patches.rows
      assert Enum.sort(Map.keys(first)) == [1, 2, 3, 4, :row]
      # The dog is above left, the pizza below right.
      assert first[1] + first[2] > 0
      assert List.last(patches.rows)[4] < 0
    end

    test "takes a picture and labels from the page" do
      inputs = %{
        "Picture" => upload(photo("cat.png")),
        "Labels, with commas between" => "rocket, cat"
      }

      assert ["cat  " <> _, "rocket  " <> _] =
               for(%{text: text} <- all(run("explain", inputs), Kino.Text), do: text)
    end
  end

  defp run(name, inputs \\ %{}), do: Notebook.run("livebooks/#{name}.livemd", inputs)
  defp lines(path), do: path |> File.read!() |> String.split("\n")

  # Everything of a kind on the page, in order.
  defp all(shown, module) when is_list(shown), do: Enum.flat_map(shown, &all(&1, module))
  defp all(%{__struct__: module} = shown, module), do: [shown]
  defp all(%{__struct__: Kino.Layout, items: items}, module), do: all(items, module)
  defp all(_shown, _module), do: []

  # A picture's pixels as a browser hands them over.
  defp photo(name, side \\ 96) do
    {:ok, planes} = Pictures.planes({:path, Path.join(@samples, name)}, side, side)
    size = side * side
    <<red::binary-size(size), green::binary-size(size), blue::binary-size(size)>> = planes
    bytes = Enum.map([red, green, blue], &:binary.bin_to_list/1)
    {bytes |> Enum.zip_with(& &1) |> IO.iodata_to_binary(), side, side}
  end

  defp upload({pixels, height, width}) do
    path = Path.join(System.tmp_dir!(), "notebook-#{System.unique_integer([:positive])}.rgb")
    File.write!(path, pixels)
    on_exit(fn -> File.rm(path) end)
    %{file_ref: {:file, path}, height: height, width: width, format: :rgb}
  end
end
