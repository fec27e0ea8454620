defmodule Image.ZeroShot.PhoenixGuideLiveTest do
  # The page of the guide "Phoenix"; see phoenix_guide_test.exs.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.PhoenixApp

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Serving.Directory
  alias Image.ZeroShot.Test.Pictures
  alias Phoenix.LiveView.Socket

  @moduletag :capture_log

  @app :image_zero_shot
  @compile {:no_warn_undefined, [MyAppWeb.ClipError, MyAppWeb.LabelLive]}

  @clip_error MyAppWeb.ClipError
  @live MyAppWeb.LabelLive

  # What the guide promises for each reason that a user meets.
  @bad_picture [:invalid_image, :unsupported_image, :image_too_large]
  @try_again [:overloaded, :timeout, :serving_down, :node_down]

  setup_all do: start!()

  describe "LiveView" do
    test "uploads become labels, and the view does not wait for them" do
      socket = mount(["dog.jpg", "pizza.webp"])
      assert page(socket) =~ ~s(<button>What)
      assert page(socket) =~ ~s(<img id="1">)
      assert page(socket) =~ ~s(<progress max="100" value="40">)

      socket = event("classify", socket)

      assert socket.assigns.photos |> Enum.map(& &1.name) |> Enum.sort() == [
               "dog.jpg",
               "pizza.webp"
             ]

      assert page(socket) =~ "Looking"

      socket = finish(socket)
      assert page(socket) =~ ~r/<h2>dog.jpg<\/h2>\s*<ol><li>a dog: \d+ %<\/li><li>/
      assert page(socket) =~ ~r/<h2>pizza.webp<\/h2>\s*<ol><li>a pizza: \d+ %<\/li><li>/
      refute page(socket) =~ "Looking"
      refute page(socket) =~ "alert"
    end

    test "what is no picture is told and logged, and forgotten when the next one is chosen" do
      socket = event("classify", mount([{"nonsense", "notes.jpg"}]))
      {socket, log} = with_log(fn -> finish(socket) end)
      assert log =~ "[info] invalid_image: "
      assert page(socket) =~ @clip_error.message(%{reason: :invalid_image})
      refute page(socket) =~ "<li>"

      socket = event("choose", with_files(socket, ["dog.jpg"]))
      refute page(socket) =~ "alert"
      refute page(socket) =~ "notes.jpg"

      socket = finish(event("classify", socket))
      assert page(socket) =~ "a dog"
      refute page(event("choose", with_files(socket, ["cat.png"]))) =~ "a dog"
    end

    test "every way that a call can end is shown, and logged without being shown" do
      socket = event("classify", mount(["dog.jpg"]))
      %{assigns: %{photos: [%{ref: ref}]}} = socket

      for reason <- @bad_picture ++ @try_again ++ [:internal] do
        error = %Error{reason: reason, message: "at /srv/secret"}
        result = {:ok, {:error, error}}
        {{:noreply, socket}, log} = with_log(fn -> @live.handle_async(ref, result, socket) end)
        assert page(socket) =~ @clip_error.message(error)
        refute page(socket) =~ "secret"
        assert log =~ "#{reason}: at /srv/secret"
        assert log =~ "[error]" == reason not in [:overloaded | @bad_picture]
      end

      {:noreply, socket} = @live.handle_async(ref, {:exit, {:undef, []}}, socket)
      assert page(socket) =~ @clip_error.message(:else)
    end

    test "a serving that does not answer in time is told" do
      {server, _entry} = Directory.lookup({:name, MyApp.Clip})
      Application.put_env(@app, :timeout, 100)
      :sys.suspend(server)
      socket = event("classify", mount(["dog.jpg"]))
      assert page(finish(socket)) =~ @clip_error.message(%{reason: :timeout})
    after
      {server, _entry} = Directory.lookup({:name, MyApp.Clip})
      :sys.resume(server)
      Application.delete_env(@app, :timeout)
    end

    test "nothing is started without a file, and that is said instead of old results" do
      socket = finish(event("classify", mount(["dog.jpg"])))

      for name <- ["choose", "classify"] do
        socket = event(name, socket)
        assert socket.private == %{}
        assert page(socket) =~ @clip_error.message(:no_photo)
        refute page(socket) =~ "a dog"
        refute page(event("choose", with_files(socket, ["dog.jpg"]))) =~ "alert"
      end
    end

    test "wrong and too many files are told, each beside its name, until they are removed" do
      socket = mount(["dog.jpg", "pizza.webp"], [{"2", :too_large}, {"phx-1", :too_many_files}])
      assert page(socket) =~ ~s(<button disabled>What)
      assert page(socket) =~ @clip_error.message(:too_many_files)
      [_, _, removed] = String.split(page(socket), "<div>")
      assert removed =~ @clip_error.message(%{reason: :image_too_large})

      socket =
        event("remove", %{"ref" => "2"}, mount(["dog.jpg", "pizza.webp"], [{"2", :too_large}]))

      assert page(socket) =~ ~s(<button>What)
      assert page(socket) =~ "dog.jpg"
      refute page(socket) =~ "pizza.webp"
    end

    test "a call that is cancelled disappears, and the others go on" do
      socket = event("classify", mount(["dog.jpg", "pizza.webp"]))
      [%{ref: ref} | _] = Enum.filter(socket.assigns.photos, &(&1.name == "dog.jpg"))
      socket = event("cancel", %{"ref" => ref}, socket)
      refute Map.has_key?(socket.private, ref)
      refute page(socket) =~ "<h2>dog.jpg"

      {:noreply, socket} = @live.handle_async(ref, {:exit, {:shutdown, :cancel}}, socket)
      refute page(socket) =~ "alert"
      assert page(finish(socket)) =~ "a pizza"
    end
  end

  test "every reason has words of its own" do
    claimed = @bad_picture ++ @try_again
    words = for reason <- claimed, do: @clip_error.message(%Error{reason: reason, message: ""})

    # The last two share theirs.
    assert length(Enum.uniq(words)) == length(claimed) - 1
    for fault <- [:too_large, :not_accepted], do: assert(@clip_error.message(fault) in words)
    refute @clip_error.message(%Error{reason: :torch, message: ""}) in words

    named = for [_, reason] <- Regex.scan(~r/`:(\w+)`/, documentation(Error)), do: reason
    for reason <- claimed, do: assert(to_string(reason) in named)
  end

  defp mount(files, errors \\ []) do
    {:ok, socket} = @live.mount(%{}, %{}, %Socket{})
    socket = with_files(socket, files)
    put_in(socket.assigns.uploads.photo.errors, errors)
  end

  # Samples by their name, or bytes with a name.
  defp with_files(socket, files) do
    entries =
      for {file, number} <- Enum.with_index(files, 1) do
        {bytes, name} = if is_binary(file), do: {Pictures.sample_bytes(file), file}, else: file
        %{ref: "#{number}", client_name: name, progress: 40, path: temporary(bytes)}
      end

    put_in(socket.assigns.uploads.photo.entries, entries)
  end

  defp event(name, params \\ %{}, socket) do
    {:noreply, socket} = @live.handle_event(name, params, socket)
    socket
  end

  # As LiveView: each in a process of its own, with what the function returns.
  defp finish(socket) do
    socket.private
    |> Enum.reduce(%{socket | private: %{}}, fn {ref, task}, socket ->
      result = task |> Task.async() |> Task.await()
      {:noreply, socket} = @live.handle_async(ref, {:ok, result}, socket)
      socket
    end)
    |> with_files([])
  end

  defp page(socket) do
    socket.assigns |> @live.render() |> IO.iodata_to_binary() |> String.replace(~r/>\s+</, "><")
  end
end
