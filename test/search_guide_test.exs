defmodule Image.ZeroShot.SearchGuideTest do
  # The guide's modules need Ecto, Oban and Phoenix, which are not here. What can be checked without them.
  use ExUnit.Case, async: false

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Test.Markdown

  @guide "guides/search.md"
  @outcome MyApp.ClipOutcome
  @live MyAppWeb.PhotoLive
  @photos MyApp.Photos
  @compile {:no_warn_undefined, [@outcome, @live]}

  defp blocks, do: @guide |> File.read!() |> Markdown.blocks("elixir")

  # Without a warning: a reason named twice would be a clause that never matches.
  defp compile!(module) do
    {line, code} =
      Enum.find(blocks(), fn {_, code} -> code =~ "defmodule #{inspect(module)} do" end)

    compile = fn -> Code.compile_string(code, "#{@guide}:#{line}") end
    assert ExUnit.CaptureIO.capture_io(:stderr, compile) == ""
    on_exit(fn -> forget(module) end)
    code
  end

  defp forget(module) do
    :code.purge(module)
    :code.delete(module)
  end

  test "every reason has one outcome, and all lists name reasons only" do
    code = compile!(@outcome)

    outcomes =
      for reason <- reasons(), do: {reason, @outcome.of(%Error{reason: reason, message: ""})}

    for {reason, outcome} <- outcomes do
      case outcome do
        {:snooze, seconds} -> assert seconds in 1..300
        {:cancel, %Error{reason: ^reason}} -> :ok
        {:error, %Error{reason: ^reason}} -> :ok
      end
    end

    assert {:snooze, _} = outcomes[:overloaded]
    assert {:cancel, _} = outcomes[:invalid_image]
    assert {:error, _} = outcomes[:node_down]

    lists = for [name] <- Regex.scan(~r/(?<=^    )(?::\w+|\w+:)(?=,?$| \d)/m, code), do: name
    named = for name <- lists, do: name |> String.trim(":") |> String.to_existing_atom()
    assert Enum.sort(named) == Enum.sort(reasons())
  end

  @tag :tmp_dir
  test "an upload is kept, and added to its album", %{tmp_dir: folder} do
    test = self()
    add = quote do: def(add(path, album), do: {:ok, send(unquote(test), {:added, path, album})})
    Module.create(@photos, add, Macro.Env.location(__ENV__))
    on_exit(fn -> forget(@photos) end)
    compile!(@live)
    Application.put_env(:my_app, :photo_folder, folder)
    on_exit(fn -> Application.delete_env(:my_app, :photo_folder) end)

    upload = Path.join(folder, "upload.jpg")
    File.cp!("priv/samples/dog.jpg", upload)
    {:ok, socket} = @live.mount(%{"album_id" => "7"}, %{}, %Phoenix.LiveView.Socket{})
    entry = %{ref: "1", uuid: "1", client_name: "upload.jpg", path: upload}
    socket = put_in(socket.assigns.uploads.photo.entries, [entry])
    assert socket.assigns |> @live.render() |> IO.iodata_to_binary() =~ ~s(type="file")
    assert {:noreply, _socket} = @live.handle_event("save", %{}, socket)

    assert_received {:added, path, 7}
    assert Path.extname(path) == ".jpg"
    assert File.read!(path) == File.read!("priv/samples/dog.jpg")
    refute File.exists?(upload)
  end

  defp reasons do
    {:ok, types} = Code.Typespec.fetch_types(Error)

    for {:type, {name, {:type, _, :union, members}, []}} <- types,
        name in [:reason, :hub_reason],
        {:atom, _, reason} <- members,
        uniq: true,
        do: reason
  end
end
