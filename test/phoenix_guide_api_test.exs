defmodule Image.ZeroShot.PhoenixGuideAPITest do
  # Requests to what the guide "Phoenix" builds; see phoenix_guide_test.exs.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.PhoenixApp
  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Test.Pictures

  @moduletag :capture_log

  @compile {:no_warn_undefined,
            [
              MyAppWeb.Admit,
              MyAppWeb.ErrorJSON,
              MyAppWeb.Health,
              MyAppWeb.LabelController,
              MyAppWeb.LabelControllerTest
            ]}

  @admit MyAppWeb.Admit
  @controller MyAppWeb.LabelController
  @health MyAppWeb.Health

  setup_all do: start!()

  # The registry may still know processes of the test before.
  setup do: counted(0)

  describe "controller" do
    test "answers with labels" do
      conn = create(copy("dog.jpg"))
      assert {conn.status, conn.resp_headers} == {200, []}
      assert %{"labels" => [%{"label" => "a dog", "score" => score}, _, _]} = conn.resp_body
      assert score > 0.5
    end

    test "422 for what is wrong with the picture" do
      assert %{status: 422, resp_body: %{"error" => "invalid_image"}} = create(temporary("no"))
      svg = temporary(~s(<svg xmlns="http://www.w3.org/2000/svg"></svg>))
      assert %{status: 422} = create(svg)

      large = temporary(Pictures.claiming(60_000, 60_000, ""))
      assert %{status: 422, resp_body: %{"error" => "image_too_large"}} = create(large)
      assert create(large).resp_headers == []
    end

    test "503 for what will pass: full, and not there" do
      fill(fn -> assert_try_again("overloaded") end)
      without_serving(fn -> assert_try_again("serving_down") end)
      assert %{status: 200} = create(copy("dog.jpg"))
    end

    test "400 without a picture, and 500 for faults of ours, which are logged" do
      conn = %Plug.Conn{}
      assert %{status: 400} = @controller.create(conn, %{})
      assert %{status: 400} = @controller.create(conn, %{"photo" => "text"})

      log = capture_log(fn -> assert %{status: 500} = create("/no/such/file") end)
      assert log =~ "no such file"
    end

    test "the test of the guide passes" do
      tests = MyAppWeb.LabelControllerTest.__ex_unit__().tests
      assert tests != []
      for test <- tests, do: apply(test.module, test.name, [%{conn: %Plug.Conn{}}])
    end
  end

  describe "before the body is read" do
    test "bodies that are too large are refused, however full it is" do
      conn = admit(8_000_001)
      assert {conn.status, conn.resp_body} == {413, %{"error" => "image_too_large"}}
      assert conn.halted
      assert {"connection", "close"} in conn.resp_headers
      assert %{halted: false} = admit(8_000_000)
      assert %{error: :image_too_large} = MyAppWeb.ErrorJSON.render("413.json", %{})
      assert %{errors: _} = MyAppWeb.ErrorJSON.render("404.json", %{})
    end

    test "uploads are refused when the queue is full, by calls or by uploads on their way" do
      fill(fn -> assert %{status: 503, halted: true} = admit(1) end)

      {:ok, %{queue: %{max: max}}} = Image.ZeroShot.info()

      uploads =
        for _ <- 1..max, do: Task.async(fn -> {admit(1), receive(do: (:answer -> :ok))} end)

      counted(max)
      conn = admit(1)
      assert {conn.status, conn.resp_body} == {503, %{"error" => "overloaded"}}
      assert {"retry-after", "2"} in conn.resp_headers

      Process.exit(hd(uploads).pid, :kill)
      Process.unlink(hd(uploads).pid)
    end

    test "a place is free after the answer, and nothing else is held up" do
      conn = admit(1)
      assert Registry.count(MyApp.Uploads) == 1
      Phoenix.Controller.json(conn, %{})
      assert Registry.count(MyApp.Uploads) == 0

      without_serving(fn ->
        assert %{status: 503, resp_body: %{"error" => "serving_down"}} = admit(1)
        assert %{status: nil, halted: false} = @admit.call(%Plug.Conn{path_info: ["photos"]}, [])
      end)
    end
  end

  test "health is that of the serving, for its path alone" do
    assert %{status: 200, resp_body: "emoji-clip on " <> _, halted: true} = health(["health"])

    without_serving(fn ->
      assert %{status: 503, resp_body: "serving_down", halted: true} = health(["health"])
    end)

    assert %{status: nil, halted: false} = health(["photos"])
  end

  defp assert_try_again(reason) do
    conn = create(copy("dog.jpg"))
    assert {conn.status, conn.resp_body} == {503, %{"error" => reason}}
    assert [{"retry-after", seconds}] = conn.resp_headers
    assert String.to_integer(seconds) > 0
  end

  defp admit(bytes) do
    headers = [{"content-length", "#{bytes}"}]
    conn = %Plug.Conn{method: "POST", path_info: ["api", "labels"], req_headers: headers}
    @admit.call(conn, @admit.init([]))
  end

  defp counted(number) do
    eventually(fn -> Registry.count(MyApp.Uploads) == number end)
    :ok
  end

  defp health(path), do: @health.call(%Plug.Conn{path_info: path}, @health.init([]))
end
